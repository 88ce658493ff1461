-- Cancels a job, or every job of a product, or of one image of it, that was enqueued before a deletion.
-- ARGV: 'job' and its id; reply: cancelled, requested, ended or unknown.
-- ARGV: 'product', its id, greatest number of jobs to look at, sequence of the deletion and the entry to go on after
-- (both '' at first), an image's id or ''; reply: { sequence, entry to go on after or '' at the end, cancelled, image
-- ids }.
-- ARGV: 'sequence'; reply: the next sequence, of a change that cancels nothing.

-- Returns whether it ended at once; a running job is asked to stop.
local function cancelJob(id, job)
  if job.state == 'processing' then
    job.cancel = true
    save(id, job)
    return false
  end
  finish(id, job, 'cancelled')
  return true
end

local function cancelOne(id)
  local job = load(id)
  if job and job.alias_of then
    -- The job that took its data, unless that carries newer data by now.
    local alias = job
    id = alias.alias_of
    job = load(id)
    if alias.superseded or not job or job.sequence ~= alias.sequence then return 'ended' end
  end
  if not job then return 'unknown' end
  if job.state == 'cancelled' then return 'cancelled' end
  if hasEnded(job) then return 'ended' end
  return cancelJob(id, job) and 'cancelled' or 'requested'
end

local function cancelProduct(product, limit, sequence, after, image)
  sequence = sequence == '' and nextSequence() or sequence
  local prefix = cjson.encode(product) .. NUL
  local from = after == '' and '[' .. prefix or '(' .. after
  local last = '(' .. prefix:sub(1, -2) .. '\1'
  local members = redis.call('ZRANGE', key.images, from, last, 'BYLEX', 'LIMIT', 0, limit)
  local cancelled, images = 0, {}
  for _, member in ipairs(members) do
    local id = member:match('([^%z]*)$')
    local job = load(id)
    local isMeant = job and job.state and (image == '' or job.image == image)
    if isMeant and tonumber(job.sequence) < tonumber(sequence) then
      images[#images + 1] = job.image
      if cancelJob(id, job) then cancelled = cancelled + 1 end
    end
  end
  return { sequence, #members == limit and members[limit] or '', cancelled, images }
end

local reply
if ARGV[1] == 'job' then
  reply = cancelOne(ARGV[2])
elseif ARGV[1] == 'product' then
  reply = cancelProduct(ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6])
else
  reply = nextSequence()
end
flush()
if mayHaveWork then wakeWorkers() end
return reply
