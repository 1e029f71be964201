-- archive: one archiver at a time in a tenant, and what it has archived leaves the store. KEYS[1] is the tenant's tag with its
-- colon; ARGV: owner, lease in ms, then either nothing, to become the archiver, or the id of the last record archived and the
-- least id that is kept. Gives whether the owner is the archiver. What is archived is noted with the same step that removes it,
-- so that a reader always knows where to look.
local tag = KEYS[1]
local archiver = redis.call('GET', tag .. 'archiving')
if archiver and archiver ~= ARGV[1] or ARGV[3] and not archiver then return cmsgpack.pack(false) end
redis.call('SET', tag .. 'archiving', ARGV[1], 'PX', ARGV[2])
if ARGV[3] then
  redis.call('SET', tag .. 'archived', ARGV[3])
  redis.call('XTRIM', tag .. 'out', 'MINID', ARGV[4])
end
return cmsgpack.pack(true)
