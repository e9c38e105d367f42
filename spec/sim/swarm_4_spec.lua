require "spec.sim.swarm".describe(4, 4)
