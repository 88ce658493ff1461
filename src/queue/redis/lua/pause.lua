-- ARGV: 1 to pause, 0 to resume.
if ARGV[1] == '1' then
  redis.call('HSET', META, 'paused', 1)
else
  redis.call('HDEL', META, 'paused')
end
return 1
