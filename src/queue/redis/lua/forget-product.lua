-- ARGV: product id, greatest number of keys to look at, the key to go on after or ''.
-- Gives {the last key looked at or '', cancelled, {image, version} ...}: called until there is no last key.
local product, limit, after = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local prefix = product .. SEPARATOR
local bottom = after == '' and '[' .. prefix or '(' .. prefix .. after
local members = redis.call('ZRANGE', PRODUCTS, bottom, '(' .. product .. '\1', 'BYLEX', 'LIMIT', 0, limit)

local cancelled, images, last = 0, {}, ''
for i = 1, #members do
  local key = members[i]:sub(#prefix + 1)
  local slot = slotOf(key)
  local version, image = 0, nil
  for _, id in ipairs({ slot.w, slot.r }) do
    local s = id ~= '' and job(id)
    if s and s.product == product then
      version, image = math.max(version, s.version), s.image
      if s.place == 'r' then
        s.cancel = 1
        change(id, s)
      else
        setSlot(s, '', nil)
        finish(id, s, 'x')
        cancelled = cancelled + 1
      end
    end
  end
  if image then images[#images + 1] = { image, version } end
  if #members == limit then last = key end
end
commit()
return { last, cancelled, images }
