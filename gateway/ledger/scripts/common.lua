-- Shared by the scripts that book. KEYS[1] is the tenant's tag with its colon, `{t:<tid>}:`; every key begins with it,
-- so all of them live in one slot. ARGV[1] is the load in MessagePack; the last part says what is in it.
-- Numbers are doubles: exact up to 2^53, which is $9 million in nano-USD.
local tag = KEYS[1]
local load = cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function whole(n) return string.format('%.0f', n) end

-- The markers of attempts that have ended, by index: `<outcome>:<nano>:<stream ids>`; one read for each hour of attempt ids.
local function read_markers(items)
  local hours, markers = {}, {}
  for i, item in ipairs(items) do
    local group = hours[item[2]]
    if not group then group = {}; hours[item[2]] = group end
    group[#group + 1] = i
  end
  for hour, group in pairs(hours) do
    local aids = {}
    for j, i in ipairs(group) do aids[j] = items[i][1] end
    local found = redis.call('HMGET', tag .. 'd:' .. whole(hour), unpack(aids))
    for j, i in ipairs(group) do markers[i] = found[j] end
  end
  return markers
end

-- What attempts in flight hold, by attempt id: {nano, budget counters, concurrency scopes, envelope, since ms,
-- nano that the prompt alone costs}.
local function read_held(items)
  local aids, held = {}, {}
  for i, item in ipairs(items) do aids[i] = item[1] end
  local found = redis.call('HMGET', tag .. 'h', unpack(aids))
  for i, packed in ipairs(found) do
    if packed then held[aids[i]] = cmsgpack.unpack(packed) end
  end
  return held
end

local function append(list, ...)
  for i = 1, select('#', ...) do list[#list + 1] = (select(i, ...)) end
end
