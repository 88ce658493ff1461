-- Runs one command that has to work while Redis is full. KEYS: its key. ARGV: the command, and what follows the key.
return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
