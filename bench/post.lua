-- A steady POST, each with a name of its own. How long each connection waits between two of them is the argument.
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(arguments)
  wait = tonumber(arguments[1])
  started = os.time()
  sent = 0
  wrk.headers["Content-Type"] = "application/json"
end

function delay()
  return wait
end

function request()
  sent = sent + 1
  local name = string.format("b%d-%d-%d", started, number, sent)
  return wrk.format("POST", "/api/v1/services", nil,
    string.format('{"name":"%s","repository_url":"https://git.example.com/x"}', name))
end
