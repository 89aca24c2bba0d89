# What the tests of the WASM host evaluate. host.wasm is this file, compiled:
#   opa build -t wasm -e host/echo … -o bundle.tar.gz host.rego
package host

# The input as the module sees it: what went in must come out.
echo := input

seen if input

defined if input == input

data_seen := data.limits

# Two values for one rule: the module aborts.
conflict := x if some x in input.xs

# Never ends by itself.
endless if {
	some i in numbers.range(1, 2000)
	some j in numbers.range(1, 2000)
	some k in numbers.range(1, 2000)
	i + j + k == -1
}

# Asks for ever more memory.
hungry := count([x | some i in numbers.range(1, 100000); x := sprintf("%d-%s", [i, input.filler])])

# A builtin that has no answer here.
failing := time.parse_rfc3339_ns(input.text)

clock := time.clock(time.now_ns())

now := time.now_ns()

pure_time := time.clock(1736937000000000000)

texts := {
	"set": sprintf("%v", [{"us-west-2", "eu-west-1", "us-east-1"}]),
	"object": sprintf("%v", [{"b": 1, "a": [true, null]}]),
	"quoted": sprintf("%q", ["a\"b"]),
	"number": sprintf("%d of %05.1f", [3, 2.25]),
	"template": $"<{input.name}>",
}

sets := {3, "b", 1, "a", null, [2], {"k": 1}}

patched := json.patch(input.doc, [{"op": "add", "path": "/list/-", "value": 4}])

lookup := {key: input.object[key] | some key in input.keys}

# Numbers beyond 32 and 53 bits are calculated with exactly.
arithmetic := {
	"sum": input.a + input.b,
	"remainder": input.a % input.b,
	"less": input.a < input.b,
	"day": time.now_ns() - (time.now_ns() % 86400000000000),
}
