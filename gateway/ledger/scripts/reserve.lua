-- reserve: holds the worst case of attempts, each all or nothing. Each item: {aid, hour of the aid, nano, least nano worth
-- having, lease ms, force, envelope, record key or '', {{budget counter, limit or -1, forget at}..}, {{rpm scope, limit}..},
-- {{tpm scope, limit, tokens}..}, {{concurrency scope, limit}..}, nano that the prompt alone costs, slab}. `slab` is false, or
-- the slab that a hold is moved out of, or for a slab itself {requests wanted, tokens wanted, least requests, least tokens}: it
-- gets at most a hundredth of what is left, or NEAR where that is less than the least. Gives for each one of
--   {OK, held nano, index of the tightest budget, left of it, rpm limit, remaining, full in ms, tpm limit, remaining, full in ms}
--   the same with {.., requests, tokens} for a slab   {NEAR}
--   {HELD, held nano}   {DONE, marker}   {NOLIM}   {SKEW, now ms}
--   {DENY, index of the budget, held, posted, limit}   {RATE, rpm|tpm|concurrency, index of the cap, retry after ms}
local MAX_SKEW_MS = 300000
local SLAB_SHARE = 100

-- A token bucket as the moment it is full again (GCRA): room for a minute's worth, refilled evenly.
local function fill(full_at, limit, cost)
  local interval = 60000 / limit
  local after = math.max(full_at, now) + math.min(cost, limit) * interval
  local wait = after - now - 60000
  return after, wait > interval / 100 and wait or 0
end

local function tightest(caps, buckets, prefix)
  local best, share = {0, 0, 0}, 2
  for _, cap in ipairs(caps) do
    local busy = math.max(buckets[prefix .. cap[1]] - now, 0)
    if 1 - busy / 60000 < share then
      share = 1 - busy / 60000
      best = {cap[2], math.floor(math.max(share, 0) * cap[2] + 0.01), math.ceil(busy)}
    end
  end
  return best
end

local function reserve(items, client_ms)
  local verdicts = {}
  if #items == 0 then return verdicts end
  local markers, held = read_markers(items), read_held(items)
  local budgets, buckets, running, records = {}, {}, {}, {}
  local bucket_fields, scopes, lenders, moved = {}, {}, {}, {}
  for _, item in ipairs(items) do
    if item[8] ~= '' and records[item[8]] == nil then records[item[8]] = redis.call('EXISTS', item[8]) == 1 end
    for _, b in ipairs(item[9]) do
      if not budgets[b[1]] then
        local found = redis.call('HMGET', tag .. b[1], 'res', 'post')
        budgets[b[1]] = {tonumber(found[1] or 0), tonumber(found[2] or 0), 0, b[3]}
      end
    end
    for kind, prefix in pairs({[10] = 'r:', [11] = 't:'}) do
      for _, cap in ipairs(item[kind]) do
        local field = prefix .. cap[1]
        if not buckets[field] then buckets[field] = 0; bucket_fields[#bucket_fields + 1] = field end
      end
    end
    if type(item[14]) == 'string' then lenders[#lenders + 1] = {item[14]} end
    for _, cap in ipairs(item[12]) do
      if not running[cap[1]] then running[cap[1]] = {0, 0}; scopes[#scopes + 1] = cap[1] end
    end
  end
  if #bucket_fields > 0 then
    for i, full_at in ipairs(redis.call('HMGET', tag .. 'rl', unpack(bucket_fields))) do
      buckets[bucket_fields[i]] = tonumber(full_at or 0)
    end
  end
  if #scopes > 0 then
    for i, n in ipairs(redis.call('HMGET', tag .. 'cc', unpack(scopes))) do running[scopes[i]][1] = tonumber(n or 0) end
  end

  local slabs = #lenders > 0 and read_held(lenders) or {}

  -- What an attempt now holds by itself its slab holds no longer.
  local function move_out(item)
    local slab = slabs[item[14]]
    if not slab then return end
    local part = math.min(item[3], slab[1])
    slab[1] = slab[1] - part
    moved[item[14]] = slab
    for _, counter in ipairs(slab[2]) do
      local spent = budgets[counter]
      if spent then spent[1], spent[3] = spent[1] - part, spent[3] - part end
    end
  end

  local function verdict_of(item, nano)
    local tight, left, share = 0, 0, 2
    for i, b in ipairs(item[9]) do
      local spent = budgets[b[1]]
      local room = b[2] - spent[1] - spent[2] - nano
      if b[2] > 0 and room / b[2] < share then tight, left, share = i, room, room / b[2] end
    end
    local r, t = tightest(item[10], buckets, 'r:'), tightest(item[11], buckets, 't:')
    return {'OK', nano, tight, left, r[1], r[2], r[3], t[1], t[2], t[3]}
  end

  local function share_of(caps, prefix, wanted)
    for _, cap in ipairs(caps) do
      local left = 1 - math.max(buckets[prefix .. cap[1]] - now, 0) / 60000
      wanted = math.min(wanted, math.floor(left * cap[2] / SLAB_SHARE))
    end
    return wanted
  end

  local function take_rates(caps, prefix, cost)
    for _, cap in ipairs(caps) do
      local field = prefix .. cap[1]
      buckets[field] = math.max(buckets[field], now) + cost * 60000 / cap[2]
    end
  end

  local function decide(item)
    local nano, least = item[3], item[4]
    for i, b in ipairs(item[9]) do
      local spent = budgets[b[1]]
      local room = b[2] - spent[1] - spent[2]
      if b[2] >= 0 and room < least then return {'DENY', i, spent[1], spent[2], b[2]} end
      if b[2] >= 0 and room < nano then nano = room end
    end
    for i, cap in ipairs(item[12]) do
      if running[cap[1]][1] >= cap[2] then return {'RATE', 'concurrency', i, 1000} end
    end
    local after = {}
    for i, cap in ipairs(item[10]) do
      local full_at, wait = fill(buckets['r:' .. cap[1]], cap[2], 1)
      if wait > 0 then return {'RATE', 'rpm', i, math.ceil(wait)} end
      after['r:' .. cap[1]] = full_at
    end
    for i, cap in ipairs(item[11]) do
      local full_at, wait = fill(buckets['t:' .. cap[1]], cap[2], cap[3])
      if wait > 0 then return {'RATE', 'tpm', i, math.ceil(wait)} end
      after['t:' .. cap[1]] = full_at
    end
    for field, full_at in pairs(after) do buckets[field] = full_at end
    return verdict_of(item, nano)
  end

  local function allot(item)
    local nano = item[3]
    for _, b in ipairs(item[9]) do
      local spent = budgets[b[1]]
      if b[2] >= 0 then nano = math.min(nano, math.floor((b[2] - spent[1] - spent[2]) / SLAB_SHARE)) end
    end
    if nano < item[4] then return {'NEAR'} end
    local requests = share_of(item[10], 'r:', item[14][1])
    local tokens = share_of(item[11], 't:', item[14][2])
    if requests < item[14][3] or tokens < item[14][4] then return {'NEAR'} end
    take_rates(item[10], 'r:', requests)
    take_rates(item[11], 't:', tokens)
    local verdict = verdict_of(item, nano)
    append(verdict, requests, tokens)
    return verdict
  end

  local holds, leases, granted = {}, {}, false
  local skewed = math.abs(now - client_ms) > MAX_SKEW_MS
  for i, item in ipairs(items) do
    local aid, asks_slab, verdict = item[1], type(item[14]) == 'table', nil
    if skewed then verdict = {'SKEW', now}
    elseif markers[i] then verdict = {'DONE', markers[i]}
    elseif held[aid] then verdict = {'HELD', held[aid][1]}
    elseif item[6] then verdict = {'OK', item[3], 0, 0, 0, 0, 0, 0, 0, 0}
    elseif item[8] ~= '' and not records[item[8]] then verdict = {'NOLIM'}
    elseif asks_slab then verdict = allot(item)
    else verdict = decide(item) end
    granted = granted or verdict[1] == 'OK'
    if verdict[1] == 'OK' and (verdict[2] > 0 or not asks_slab) then
      local counters, names = {}, {}
      for j, b in ipairs(item[9]) do
        local spent = budgets[b[1]]
        spent[1], spent[3] = spent[1] + verdict[2], spent[3] + verdict[2]
        counters[j] = b[1]
      end
      for j, cap in ipairs(item[12]) do
        local n = running[cap[1]]
        n[1], n[2] = n[1] + 1, n[2] + 1
        names[j] = cap[1]
      end
      held[aid] = {verdict[2], counters, names, item[7], now, item[13]}
      append(holds, aid, cmsgpack.pack(held[aid]))
      append(leases, whole(now + item[5]), aid)
      if type(item[14]) == 'string' then move_out(item) end
    end
    verdicts[i] = verdict
  end

  if #holds > 0 then
    for slab, record in pairs(moved) do append(holds, slab, cmsgpack.pack(record)) end
    redis.call('HSET', tag .. 'h', unpack(holds))
    redis.call('ZADD', tag .. 'if', unpack(leases))
    for counter, spent in pairs(budgets) do
      if spent[3] ~= 0 then
        local res = redis.call('HINCRBY', tag .. counter, 'res', whole(spent[3]))
        if res == spent[3] and spent[2] == 0 and spent[4] > 0 then redis.call('EXPIREAT', tag .. counter, spent[4]) end
      end
    end
    for scope, n in pairs(running) do
      if n[2] > 0 then redis.call('HINCRBY', tag .. 'cc', scope, n[2]) end
    end
  end
  if granted and #bucket_fields > 0 then
    local writes = {}
    for field, full_at in pairs(buckets) do append(writes, field, string.format('%.6f', full_at)) end
    redis.call('HSET', tag .. 'rl', unpack(writes))
  end
  return verdicts
end
