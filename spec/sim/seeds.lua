-- Seeds that once found a bug: always run. { seed, nodes, seconds }, and what it was. A change of the simulator's dials
-- makes another run of them: then they are seeds like any other. The swarm's own, 1 .. 2000, run anyway: of those
-- 11 and 14 have found that a configuration that came again voided those behind it, 20 that a refused change took the
-- addresses of the one before, 122, 168, 224, 272, 290 and 291 that a node told where another member can be dialled,
-- 1316 and 1943 that proposals lost with links waited longer and longer for another try, 955 that a snapshot which was
-- ordered while an older offer of one was being ended was never offered, 99, 196, 368 and 399 that who was removed
-- asked only those that had a vote when it last heard of them, and was never told, 1099 that who had lost its log was
-- told of commits by a heartbeat that was made before that was known, and 1924 that a snapshot which took the name of a
-- damaged one was removed in its place.
return {
  { 92, 3, 30 }, -- a heartbeat's answer lost its index on the wire: the leader sent its whole window again each time
  { 580, 3, 40 }, -- a forwarded proposal that was doubled counted once: refused for certain, and applied
  { 10103, 3, 40 }, -- the same storm: a node did not catch up after healing
  { 20067, 5, 40 },
  { 93, 3, 30 }, -- the hint of a lost leader drew its delay twice, and put an election off
  { 67, 5, 30 }, -- a snapshot was awaited for ever from a member that was gone: being asked again made it seem alive
  { 103, 3, 30 }, -- a read's heartbeats put off the leader's look for a quorum
  { 113, 3, 30 }, -- the same, after a jump of its clock
}
