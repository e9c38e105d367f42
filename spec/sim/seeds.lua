-- Seeds that once found a bug: always run. { seed, nodes, seconds, faults }, and what it was.
return {
}
