-- Sends the bodies in a file in turn, and says what was measured as one line of JSON.
--
--   wrk … -s wrk.lua URL -- BODIES "NAME: VALUE"…

local requests, next_one = {}, 0

function init(args)
  local headers = {}
  for i = 2, #args do
    local name, value = args[i]:match("^(.-): (.*)$")
    headers[name] = value
  end
  local file = io.open(args[1], "rb")
  for length in function() return file:read("*l") end do
    requests[#requests + 1] = wrk.format("POST", nil, headers, file:read(tonumber(length)))
  end
  file:close()
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"p50_us":%d,"p95_us":%d,"p99_us":%d,' ..
    '"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(95), latency:percentile(99),
    e.status, e.connect, e.read, e.write, e.timeout))
end
