-- ARGV: limit, cursor (the order of the last one seen, or ''), code or ''.
-- Gives {total, 1 when there are more, {{order, view} ...}}, newest first.
local limit, cursor, code = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local ids, total = {}, 0
if code == '' then
  local top = cursor == '' and '+inf' or '(' .. cursor
  ids = redis.call('ZRANGE', HOMES.f, top, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, limit + 1)
  total = redis.call('ZCARD', HOMES.f)
else
  local prefix = code .. SEPARATOR
  local bottom, top = '[' .. prefix, '(' .. code .. '\1'
  total = redis.call('ZLEXCOUNT', DEAD_CODES, bottom, top)
  if cursor ~= '' then top = '(' .. prefix .. string.format('%016.0f', tonumber(cursor)) end
  local members = redis.call('ZRANGE', DEAD_CODES, top, bottom, 'BYLEX', 'REV', 'LIMIT', 0, limit + 1)
  for i = 1, #members do ids[i] = members[i]:sub(#prefix + 18) end
end
load(ids)
local entries = {}
for i = 1, math.min(#ids, limit) do
  local s = jobs[ids[i]]
  if s then entries[#entries + 1] = { string.format('%.0f', s.order), view(ids[i], s) } end
end
return { total, #ids > limit and 1 or 0, entries }
