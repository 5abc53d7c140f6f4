-- wrk: each request is of the next of 5,000 users; the end is one line of JSON.
local requests = {}
local count = 5000
local next_user = 0

function init(args)
  for user = 0, count - 1 do
    requests[user] = wrk.format("GET", "/v1/chat", { ["x-user-id"] = "user-" .. user })
  end
end

function request()
  next_user = (next_user + 1) % count
  return requests[next_user]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "errors": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
