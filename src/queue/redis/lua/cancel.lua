-- ARGV: id. Gives cancelled, requested, ended or unknown.
local id = ARGV[1]
local s = job(id)
if s and s.place == 'a' then
  -- The job that took its data, unless that carries newer data by now.
  local absorbed = s
  id = absorbed.key
  s = job(id)
  if absorbed.maxAttempts == 1 or s and s.version ~= absorbed.version then return 'ended' end
end
if not s then return 'unknown' end
if s.place == 'x' then return 'cancelled' end
if not PENDING[s.place] then return 'ended' end
if s.place == 'r' then
  s.cancel = 1
  change(id, s)
  commit()
  return 'requested'
end
setSlot(s, '', nil)
finish(id, s, 'x')
commit()
return 'cancelled'
