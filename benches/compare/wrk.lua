-- Prints what the comparison needs of a run of wrk as one line of JSON; times are microseconds.
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format(
    '{"seconds": %.4f, "requests": %d, "p50": %.1f, "p99": %.1f, "p999": %.1f, "max": %.1f, "reconnects": %d, "retries": %d, "refused": %d}',
    summary.duration / 1e6, summary.requests, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    latency.max, e.connect + e.read + e.write, e.timeout, e.status))
end
