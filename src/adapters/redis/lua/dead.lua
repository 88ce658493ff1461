-- ARGV: limit, cursor (the order of the last one seen, or ''), code or ''.
-- Gives {total, cursor of the next page or '', {views}}, newest first.
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
local views, last = {}, ''
for i = 1, math.min(#ids, limit) do
  local s = jobs[ids[i]]
  if s then
    views[#views + 1] = view(ids[i], s)
    last = string.format('%.0f', s.order)
  end
end
return { total, #ids > limit and last or '', views }
