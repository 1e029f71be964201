-- renew: {aid, lease ms, output tokens, nano so far}: keeps attempts in flight from being swept.
local function renew(items)
  if #items == 0 then return end
  local held = read_held(items)
  for _, item in ipairs(items) do
    if held[item[1]] then
      redis.call('ZADD', tag .. 'if', 'XX', 'GT', whole(now + item[2]), item[1])
      redis.call('HSET', tag .. 'p', item[1], cmsgpack.pack({item[3], item[4]}))
    end
  end
end

-- One exchange; load is {owner, client's ms, finishes, reservations, renewals, sums of further finishes or nil, count that the
-- owner was told last}. Endings
-- first, so that what they free can be held again by the reservations beside them. The count of this owner's exchanges
-- tells it whether the store has lost any. Nil, and nothing is done, where an attempt in the sums has ended before.
local owner, client_ms, finishes, reservations, renewals, sums, told = unpack(load, 1, 7)
if sums and any_ended(sums) then return cmsgpack.pack(nil) end
local exceptions, touched, alerts = finish(finishes, owner, sums)
local verdicts = reserve(reservations, client_ms)
renew(renewals)
local count = redis.call('HINCRBY', tag .. 'own', owner, 1)
if count <= told then count = redis.call('HINCRBY', tag .. 'own', owner, -1) end  -- stays behind until the owner hears of it
return cmsgpack.pack({now, count, exceptions, touched, alerts, verdicts})
