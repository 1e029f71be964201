-- rates: what may be asked of one deployment, by all tenants together. KEYS[1] is `{p:<deployment>}:`; the load is
-- {limits {requests a minute, tokens a minute, requests at once; 0 for none}, lease ms, takes {{attempt, tokens}..},
-- returns {{attempt, requests, tokens}..}, renewals {attempt..}}. Gives for each take {}, where it fits, or
-- {rpm|tpm|concurrency, ms until it fits, ms until anything fits}.
local limits, lease, takes, returns, renewals = unpack(load)
local rpm, tpm, most = unpack(limits)
local busy, rates = tag .. 'cc', tag .. 'rl'

-- Buckets as the moment each is full again (GCRA): room for a minute's worth, refilled evenly.
local found = redis.call('HMGET', rates, 'r', 't')
local full = {r = tonumber(found[1] or 0), t = tonumber(found[2] or 0)}

local function add(bucket, limit, cost)
  if limit > 0 and cost ~= 0 then full[bucket] = math.max(full[bucket], now) + cost * 60000 / limit end
end

local function wait(bucket, limit, cost)
  if limit == 0 then return 0 end
  local ms = math.max(full[bucket], now) + math.min(cost, limit) * 60000 / limit - now - 60000
  return ms > 600 / limit and math.ceil(ms) or 0
end

for _, back in ipairs(returns) do
  redis.call('ZREM', busy, back[1])
  add('r', rpm, back[2])
  add('t', tpm, back[3])
end
local running = 0
if most > 0 then
  local until_ms = whole(now + lease)
  for _, attempt in ipairs(renewals) do redis.call('ZADD', busy, until_ms, attempt) end
  redis.call('ZREMRANGEBYSCORE', busy, '-inf', whole(now))
  running = redis.call('ZCARD', busy)
end

local verdicts = {}
for i, take in ipairs(takes) do
  local r, t = wait('r', rpm, 1), wait('t', tpm, take[2])
  if most > 0 and running >= most then verdicts[i] = {'concurrency', 1000, 0}
  elseif r > 0 then verdicts[i] = {'rpm', r, r}
  elseif t > 0 then verdicts[i] = {'tpm', t, wait('t', tpm, 1)}
  else
    add('r', rpm, 1)
    add('t', tpm, math.min(take[2], tpm))
    if most > 0 then
      redis.call('ZADD', busy, whole(now + lease), take[1])
      running = running + 1
    end
    verdicts[i] = {}
  end
end

redis.call('HSET', rates, 'r', string.format('%.6f', full.r), 't', string.format('%.6f', full.t))
redis.call('PEXPIRE', rates, whole(math.max(full.r, full.t, now) - now + 60000))
if most > 0 then redis.call('PEXPIRE', busy, whole(2 * lease)) end
return cmsgpack.pack(verdicts)
