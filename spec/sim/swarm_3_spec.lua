require "spec.sim.swarm".describe(3, 4)
