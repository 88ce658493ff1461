-- ARGV, for each settlement: id, token, kind, processing ms, delay ms, error or result as JSON.
-- Gives 1 settled or 0 lost for each.
local WIDTH = 6
local ids = {}
for at = 1, #ARGV, WIDTH do ids[#ids + 1] = ARGV[at] end
load(ids)
loadSlotsOf(ids)

local settle = {}

function settle.complete(id, s, at)
  s.result, s.error = ARGV[at + 5], ''
  record(s, 'completed')
  vacate(s)
  finish(id, s, 'c')
  completed, ended = completed + 1, ended + 1
end

function settle.fail(id, s, at)
  s.error = ARGV[at + 5]
  record(s, 'failed', s.error)
  vacate(s)
  finish(id, s, s.cancel == 1 and 'x' or 'f')
  ended = ended + 1
end

function settle.retry(id, s, at)
  if s.attempts >= s.maxAttempts then return settle.fail(id, s, at) end
  s.error = ARGV[at + 5]
  record(s, 'retried', s.error)
  local delay = tonumber(ARGV[at + 4])
  s.availableAt = delay > 0 and now + delay or 0
  -- A delayed job gets its turn when its time comes.
  s.order = nextOrder()
  requeue(id, s)
  ended = ended + 1
end

function settle.release(id, s)
  record(s, 'released')
  s.attempts = s.attempts - 1
  if s.attempts == 0 and s.crashes == 0 then s.firstClaimedAt = 0 end
  s.availableAt = 0
  requeue(id, s)
end

function settle.cancel(id, s)
  record(s, 'cancelled')
  vacate(s)
  finish(id, s, 'x')
end

local answers = {}
for i = 1, #ids do
  local id, at = ids[i], (i - 1) * WIDTH + 1
  local s, token = jobs[id], ARGV[at + 1]
  if s and s.place == 'r' and s.token == token then
    s.settledToken = token
    if tonumber(ARGV[at + 3]) >= 0 then s.processingMs = tonumber(ARGV[at + 3]) end
    settle[ARGV[at + 2]](id, s, at)
    answers[i] = 1
  else
    answers[i] = s and s.settledToken == token and 1 or 0
  end
end
commit()
return answers
