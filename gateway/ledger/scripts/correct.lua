-- correct: books what is known better by now, as differences; what was booked before stays as it is. load is {run, items},
-- each item {aid, hour of the aid, nano as booked so far, roll-up hour, roll-up day, dimension, differences, difference in nano,
-- tag dimensions, {{budget counter, limit, forget at}..}, journal line}. Only the run that `correcting` names may.
-- Gives {LOCKED} or {OK, indexes of what was booked otherwise meanwhile and so left alone}. Thresholds passed are told by whoever
-- looks next.
local LOCK_S, INDEX_S = 60, 400 * 86400
local run, items = unpack(load)
if redis.call('GET', tag .. 'correcting') ~= run then return cmsgpack.pack({'LOCKED', {}}) end
redis.call('EXPIRE', tag .. 'correcting', LOCK_S)

local markers, moved, alerts = read_markers(items), {}, {}
local lines, posts, hours, days, tags, applied = {}, {}, {}, {}, {}, {}
for i, item in ipairs(items) do
  local nano = string.match(markers[i] or '', '^%u:(%d+)')
  if nano and tonumber(nano) ~= item[3] then
    moved[#moved + 1] = i
  else
    applied[#applied + 1] = i
    lines[#lines + 1] = item[11]
    for _, b in ipairs(item[10]) do
      local p = posts[b[1]]
      if not p then p = {held = 0, nano = 0, limit = b[2], forget_at = b[3]}; posts[b[1]] = p end
      p.nano = p.nano + item[8]
    end
    gather(hours, item[4], item[6], item[7])
    gather(days, item[5], item[6], item[7])
    for _, dim in ipairs(item[9]) do gather(tags, item[5], capped_tag(item[5], dim), item[7]) end
  end
end
if #applied > 0 then
  local id = redis.call('XADD', tag .. 'out', '*', 'e', table.concat(lines, '\n'))
  for _, i in ipairs(applied) do
    local aid, hour = items[i][1], items[i][2]
    if markers[i] then
      local ids = string.match(markers[i], '^%u:%d+:(.*)$')
      local marker = 'P:' .. whole(items[i][3] + items[i][8]) .. ':' .. ids .. ',' .. id
      redis.call('HSET', tag .. 'd:' .. whole(hour), aid, marker)
    end
    local index = tag .. 'x:' .. whole(math.floor(hour / 24))
    local before = redis.call('HGET', index, aid)
    redis.call('HSET', index, aid, before and before .. ',' .. id or id)
    redis.call('EXPIRE', index, INDEX_S)
  end
  add_cells('r:h:', hours, 14 * 86400)
  add_cells('r:d:', days, 400 * 86400)
  add_cells('r:t:', tags, 400 * 86400)
  post(posts, alerts, '')
end
return cmsgpack.pack({'OK', moved})
