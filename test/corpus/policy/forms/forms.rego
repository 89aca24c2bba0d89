# Every form of rule and expression the compiler knows, for comparing which lines are reached.
package forms

import data.lib

names contains n if {
	some n in input.names
	n != "x"
}

names contains "z" if input.z

table[k] := v if {
	some k, v in input.table
}

nested[a][b] := c if {
	some a, b in input.pairs
	c := 1
}

sets[a] contains b if {
	some a, b in input.pairs
}

deep.inner.value := 3 if input.z

deep.inner.other := 4

f(x) := y if {
	x > 1
	y := x + 1
}

f(x) := 0 if x <= 1

g(_) := "first" if input.z

else := "second" if {
	input.names[_] == "q"
} else := "third"

every_ok if {
	every n in input.names {
		count(n) > 0
		n != "bad"
	}
}

k := 3

nothing if {
	not input.z
	not names["nobody"]
}

comp := [x |
	some x in input.names
	startswith(x, "q")
]

obj := {k1: v1 |
	some k1, v1 in input.table
	v1 > 1
}

default other := 1

other := 2 if {
	input.z
	with_it with input as {"names": ["q"]} with data.lib.base as 7
}

with_it if names.q

default h(_) := "none"

h(x) := x if is_string(x)

walked := {path | walk(input.table, [path, value]); value == 2}

multi := concat(",", [
	sprintf("%d", [lib.base]),
	"x",
]) if {
	lib.base > 0
}

late := input.names[0]
late := "odd" if input.odd

unused_but_reached if {
	false
	input.never
}

decision := {
	"n": names, "t": table, "f": [f(2), f(0)], "g": g(1),
	"e": object.get({"a": 1}, "a", every_ok_text),
	"deep": deep, "nested": nested, "sets": sets,
	"comp": comp, "obj": obj, "other": other,
	"h": [h("a"), h(1)],
	"w": walked, "m": multi,
	"rest": rest,
} if k == 3

every_ok_text := "ok" if every_ok
else := "bad"

rest contains "nothing" if nothing
rest contains "unused" if unused_but_reached
rest contains late
