-- Attempts whose lease ran out more than ARGV[2] ms ago, {{aid, held record, progress record or false}..}, and how many
-- exchanges of owner ARGV[1] the store remembers. KEYS[1] is the tenant's tag with its colon. Changes nothing.
local tag = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = string.format('%.0f', now - tonumber(ARGV[2]))
local aids = redis.call('ZRANGEBYSCORE', tag .. 'if', '-inf', due, 'LIMIT', 0, 200)
local expired = {}
for i, aid in ipairs(aids) do
  local held, progress = redis.call('HGET', tag .. 'h', aid), redis.call('HGET', tag .. 'p', aid)
  expired[i] = {aid, held and cmsgpack.unpack(held) or false, progress and cmsgpack.unpack(progress) or false}
end
return cmsgpack.pack({now, tonumber(redis.call('HGET', tag .. 'own', ARGV[1]) or 0), expired})
