-- A steady POST. The arguments: a token, the file with the body, and how long each connection waits between two of them.
function init(arguments)
  wait = tonumber(arguments[3])
  wrk.method = "POST"
  wrk.path = "/api/v1/deployments"
  wrk.headers["Authorization"] = "Bearer " .. arguments[1]
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = io.open(arguments[2]):read("a")
end

function delay()
  return wait
end
