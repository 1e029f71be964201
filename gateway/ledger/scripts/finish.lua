-- finish: books how attempts ended. Each item: {aid, hour of the aid, outcome P|E|V|X, nano, may be held, {roll-up hour,
-- roll-up day, dimension, tag dimensions}, metrics, {{budget counter, limit, forget at}..}, {{bucket, limit, requests or tokens
-- to correct}..}, journal line, slab or '', nano taken from the slab[, {when due, orphan}]}. X is a tombstone: it ends what
-- was never sent, so that a late reservation is refused; what it corrects are the rates that a slab gives back. An attempt
-- that holds nothing of its own is paid from its slab. An orphan is noted with the booking of its whole hold, until what it
-- says replaces that.
-- Beside them may be the sums of others, of outcome P, that hold nothing of their own and have not ended before: {{{hour of
-- the aids, aids, markers}..}, {{roll-up hour, roll-up day, dimension, tag dimensions, metrics}..}, {{budget counter, nano,
-- limit, forget at}..}, {{bucket, limit, requests or tokens to correct}..}, {{slab, nano taken from it}..}}; their journal
-- lines are ARGV[2].
-- Gives what did not simply apply, {{index, verdict}..}, then the budgets touched, {{counter, held, posted}..}, then the
-- thresholds passed, {{counter, percent, posted, limit}..}.
local MAX_TAG_CELLS = 20000

-- Adds the metrics of many attempts to roll-up cells: one read and one write for each hash, however many they are.
local function add_cells(kind, cells_by_period, ttl_s)
  for period, cells in pairs(cells_by_period) do
    local key, fields = tag .. kind .. period, {}
    for dim in pairs(cells) do fields[#fields + 1] = dim end
    local found, writes, fresh = redis.call('HMGET', key, unpack(fields)), {}, false
    for i, dim in ipairs(fields) do
      local sum = cells[dim]
      if found[i] then
        for j, n in ipairs(cmsgpack.unpack(found[i])) do sum[j] = (sum[j] or 0) + n end
      else
        fresh = true
      end
      append(writes, dim, cmsgpack.pack(sum))
    end
    redis.call('HSET', key, unpack(writes))
    if fresh then redis.call('EXPIRE', key, ttl_s) end
  end
end

local function gather(cells_by_period, period, dim, metrics)
  local cells = cells_by_period[period]
  if not cells then cells = {}; cells_by_period[period] = cells end
  local sum = cells[dim]
  if not sum then
    sum = {}
    for j = 1, #metrics do sum[j] = metrics[j] end
    cells[dim] = sum
  else
    for j = 1, #metrics do sum[j] = sum[j] + metrics[j] end
  end
end

-- The cells of the days of these hours; `day_of` names each hour's.
local function days_of(hours, day_of)
  local days = {}
  for hour, cells in pairs(hours) do
    for dim, sum in pairs(cells) do gather(days, day_of[hour], dim, sum) end
  end
  return days
end

-- Caps the distinct tags of a day: what comes after is counted under `__other__`.
local function capped_tag(day, dim)
  local key = tag .. 'r:t:' .. day
  if redis.call('HLEN', key) < MAX_TAG_CELLS or redis.call('HEXISTS', key, dim) == 1 then return dim end
  local name, rest = string.match(dim, '^([^\31]*)\31[^\31]*(\31.*)$')
  return name .. '\31__other__' .. rest
end

-- Posts and frees; thresholds passed are kept in `alerts` until `owner`, or another process, has told of them.
local function post(posts, alerts, owner)
  local touched = {}
  for counter, p in pairs(posts) do
    local key = tag .. counter
    local held = p.held ~= 0 and redis.call('HINCRBY', key, 'res', whole(-p.held)) or nil
    local posted = redis.call('HINCRBY', key, 'post', whole(p.nano))
    if posted == p.nano and p.forget_at > 0 then redis.call('EXPIREAT', key, p.forget_at) end
    if p.limit > 0 then
      for _, percent in ipairs({50, 80, 100}) do
        local threshold = p.limit * percent / 100
        if posted - p.nano < threshold and posted >= threshold and redis.call('HSETNX', key, 'a' .. percent, 1) == 1 then
          alerts[#alerts + 1] = {counter, percent, posted, p.limit}
          redis.call('HSET', tag .. 'alerts', counter .. '|' .. percent, cmsgpack.pack({owner, now, posted, p.limit}))
        end
      end
    end
    touched[#touched + 1] = {counter, held or tonumber(redis.call('HGET', key, 'res') or 0), posted}
  end
  return touched
end

local function correct_rates(corrections)
  local fields, writes = {}, {}
  for field in pairs(corrections) do fields[#fields + 1] = field end
  if #fields == 0 then return end
  local found = redis.call('HMGET', tag .. 'rl', unpack(fields))
  for i, field in ipairs(fields) do
    local full_at = math.max(tonumber(found[i] or 0), now) + corrections[field]
    append(writes, field, string.format('%.6f', full_at))
  end
  redis.call('HSET', tag .. 'rl', unpack(writes))
end

local function any_ended(sums)
  for _, of_hour in ipairs(sums[1]) do
    local found = redis.call('HMGET', tag .. 'd:' .. whole(of_hour[1]), unpack(of_hour[2]))
    for i = 1, #found do
      if found[i] then return true end
    end
  end
  return false
end

local function finish(items, owner, sums)
  local exceptions, alerts, lines, posts = {}, {}, {}, {}
  if #items == 0 and not sums then return exceptions, {}, alerts end
  local markers, ended, held, maybe, seen = read_markers(items), {}, {}, {}, {}
  local function may_be_drawn(slab)
    if slab ~= '' and not seen[slab] then seen[slab] = true; maybe[#maybe + 1] = {slab} end
  end
  for _, item in ipairs(items) do
    if item[5] then maybe[#maybe + 1] = item end
    may_be_drawn(item[11] or '')
  end
  if sums then for _, s in ipairs(sums[5]) do may_be_drawn(s[1]) end end
  if #maybe > 0 then held = read_held(maybe) end
  local freed, freed_scopes, corrections, settled, estimates = {}, {}, {}, {}, {}
  local hours, day_of, tags, earlier, drawn, orphans, due = {}, {}, {}, {}, {}, {}, {}

  local function budget(counter)
    local p = posts[counter]
    if not p then p = {held = 0, nano = 0, limit = 0, forget_at = 0}; posts[counter] = p end
    return p
  end

  local function charge(counter, nano, limit, forget_at)
    local p = budget(counter)
    p.nano, p.limit, p.forget_at = p.nano + nano, limit, forget_at
  end

  local function correct(all)
    for _, c in ipairs(all) do corrections[c[1]] = (corrections[c[1]] or 0) + c[3] * 60000 / c[2] end
  end

  local function pay_from_slab(name, nano)
    local slab = held[name]
    if not slab then return end
    local part = math.min(nano, slab[1])
    slab[1] = slab[1] - part
    drawn[name] = slab
    for _, counter in ipairs(slab[2]) do local p = budget(counter); p.held = p.held + part end
  end

  local function count(hour, day, dim, tagged, metrics)
    gather(hours, hour, dim, metrics)
    day_of[hour] = day
    for _, tag_dim in ipairs(tagged) do gather(tags, day, capped_tag(day, tag_dim), metrics) end
  end

  if sums then  -- before the items, one of which may end a slab that these are paid from
    for _, c in ipairs(sums[2]) do count(unpack(c)) end
    for _, b in ipairs(sums[3]) do charge(unpack(b)) end
    correct(sums[4])
    for _, s in ipairs(sums[5]) do pay_from_slab(unpack(s)) end
    lines[1] = ARGV[2]
  end

  for i, item in ipairs(items) do
    local aid, outcome, nano, metrics = item[1], item[3], item[4], item[7]
    local hold = held[aid]
    if hold then
      for _, counter in ipairs(hold[2]) do local p = budget(counter); p.held = p.held + hold[1] end
      for _, scope in ipairs(hold[3]) do freed_scopes[scope] = (freed_scopes[scope] or 0) + 1 end
      freed[#freed + 1] = aid
      held[aid] = nil
    end
    local marker, before = ended[aid] or markers[i], nil
    if marker and string.match(marker, '^[EV]') then
      local packed = estimates[aid] or redis.call('HGET', tag .. 'e:' .. whole(math.floor(item[2] / 24)), aid)
      if packed then before = cmsgpack.unpack(packed) end
    end
    local was, was_nano
    if marker then was, was_nano = string.match(marker, '^(%u):(%d+)') end
    local verdict = 'NEW'
    if was and (was ~= 'X' or outcome == 'X') then
      if was == outcome and tonumber(was_nano) == nano then verdict = 'DUP'
      elseif outcome ~= 'P' then verdict = 'LATE'
      elseif was == 'P' or not before then verdict = 'CONFLICT'
      else verdict = 'ADJ' end
    end
    if verdict == 'CONFLICT' then
      redis.call('XADD', tag .. 'quarantine', '*', 'why', 'CONFLICT', 'was', marker, 'e', item[10])
    elseif verdict == 'NEW' and outcome == 'X' then
      ended[aid] = 'X:0:'
      settled[#settled + 1] = item
      correct(item[9])
    elseif verdict == 'NEW' or verdict == 'ADJ' then
      local delta, delta_nano = metrics, nano
      if verdict == 'ADJ' then
        delta, delta_nano = {}, nano - tonumber(was_nano)
        for j, n in ipairs(metrics) do delta[j] = n - (before[j] or 0) end
        local text = {}
        for j, n in ipairs(delta) do text[j] = whole(n) end
        lines[#lines + 1] = 'A ' .. table.concat(text, ',') .. ' ' .. item[10]
      else
        lines[#lines + 1] = 'N ' .. item[10]
        if not hold then pay_from_slab(item[11], math.min(nano, item[12])) end
      end
      for _, b in ipairs(item[8]) do charge(b[1], delta_nano, b[2], b[3]) end
      correct(item[9])
      local hour, day, dim, tagged = unpack(item[6])
      count(hour, day, dim, tagged, delta)
      if marker then earlier[aid] = string.match(marker, '^[EV]:%d+:(.+)$') end
      ended[aid] = outcome .. ':' .. whole(nano) .. ':'
      settled[#settled + 1] = item
      if outcome ~= 'P' then estimates[aid] = cmsgpack.pack(metrics) end
      if item[13] then
        append(due, whole(item[13][1]), aid)
        append(orphans, aid, cmsgpack.pack(item[13][2]))
      end
    end
    if verdict ~= 'NEW' then exceptions[#exceptions + 1] = {i, verdict} end
  end

  for slab, record in pairs(drawn) do
    if held[slab] then redis.call('HSET', tag .. 'h', slab, cmsgpack.pack(record)) end
  end
  if #freed > 0 then
    redis.call('HDEL', tag .. 'h', unpack(freed))
    redis.call('HDEL', tag .. 'p', unpack(freed))
    redis.call('ZREM', tag .. 'if', unpack(freed))
    for scope, n in pairs(freed_scopes) do redis.call('HINCRBY', tag .. 'cc', scope, -n) end
  end
  if #orphans > 0 then
    redis.call('HSET', tag .. 'orphans', unpack(orphans))
    redis.call('ZADD', tag .. 'orphans:due', unpack(due))
  end
  local id = ''
  if #lines > 0 then id = redis.call('XADD', tag .. 'out', '*', 'e', table.concat(lines, '\n')) end
  local writes, estimate_writes = {}, {}
  for _, of_hour in ipairs(sums and sums[1] or {}) do
    local pairs_ = {}
    for i, aid in ipairs(of_hour[2]) do append(pairs_, aid, of_hour[3][i] .. id) end
    writes[of_hour[1]] = pairs_
  end
  for _, item in ipairs(settled) do
    local aid, hour = item[1], item[2]
    if not writes[hour] then writes[hour] = {} end
    append(writes[hour], aid, ended[aid] .. id .. (earlier[aid] and ',' .. earlier[aid] or ''))
    if estimates[aid] then
      local day = math.floor(hour / 24)
      if not estimate_writes[day] then estimate_writes[day] = {} end
      append(estimate_writes[day], aid, estimates[aid])
    end
  end
  for hour, pairs_ in pairs(writes) do
    local key = tag .. 'd:' .. whole(hour)
    redis.call('HSET', key, unpack(pairs_))
    redis.call('EXPIREAT', key, (hour + 1) * 3600 + 180000)
  end
  for day, pairs_ in pairs(estimate_writes) do
    local key = tag .. 'e:' .. whole(day)
    redis.call('HSET', key, unpack(pairs_))
    redis.call('EXPIREAT', key, (day + 1) * 86400 + 180000)
  end
  local days = days_of(hours, day_of)  -- before the hours' cells are added to what there is
  add_cells('r:h:', hours, 14 * 86400)
  add_cells('r:d:', days, 400 * 86400)
  add_cells('r:t:', tags, 400 * 86400)
  correct_rates(corrections)
  return exceptions, post(posts, alerts, owner), alerts
end
