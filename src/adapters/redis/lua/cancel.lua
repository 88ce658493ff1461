-- ARGV: id. Gives cancelled, requested, ended or unknown.
local id = ARGV[1]
local s = job(id)
if not s or s.place == 'a' then return 'unknown' end
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
