package portcullis.http_test

import data.portcullis.main
import data.portcullis.support_test as support

call(permissions, held) := support.but({
	"/action": "http:post",
	"/user/roles": [],
	"/user/permissions": held,
	"/server": null,
	"/server_name": null,
	"/resource": {"type": "http", "id": "/api/tasks", "tenant_id": null, "owner_id": null, "permissions": permissions},
})

test_permissions_are_matched_by_segment if {
	table := [
		["tasks.create", ["tasks.create"], true], ["tasks.create", ["*"], true], ["tasks.create", ["tasks.*"], true],
		["tasks:create", ["tasks:*"], true], ["tasks.create.now", ["tasks.*"], true], ["tasksfoo", ["tasks.*"], false],
		["tasks", ["tasks.*"], false], ["tasks.", ["tasks.*"], false], ["tasks.create", ["task.*"], false],
		["tasks.create", ["tasks"], false], ["tasks.create", ["*.create"], false], ["tasks.create", ["tasks*"], false],
		["tasks.create", [], false], ["tasks.create", ["TASKS.CREATE"], false], ["tasks.create", ["tasks:*"], false],
	]
	every row in table {
		row[2] == main.decision.allow with data.portcullis.custom as {} with input as call({"allOf": [row[0]]}, row[1])
	}
}

test_all_of_needs_all_and_any_of_needs_one if {
	table := [
		[{"allOf": ["a", "b"]}, ["a", "b"], true], [{"allOf": ["a", "b"]}, ["a"], false],
		[{"anyOf": ["a", "b"]}, ["b"], true], [{"anyOf": ["a", "b"]}, ["c"], false],
		[{"allOf": ["a"], "anyOf": ["b", "c"]}, ["a", "c"], true], [{"allOf": ["a"], "anyOf": ["b", "c"]}, ["c"], false],
		[{"allOf": [], "anyOf": []}, ["*"], false], [{"allOf": []}, [], true], [null, [], true],
		[{}, ["*"], false], [{"oneOf": ["a"]}, ["*"], false], [{"allOf": "a"}, ["*"], false], [{"allOf": null}, ["*"], false],
		[{"allOf": null, "anyOf": ["a"]}, ["*"], false], [{"allOf": ["a"], "anyOf": "a"}, ["*"], false], [[], ["*"], false],
	]
	every row in table {
		row[2] == main.decision.allow with data.portcullis.custom as {} with input as call(row[0], row[1])
	}
}

test_scopes_count_as_permissions if {
	document := json.patch(call({"allOf": ["a"]}, []), [{"op": "add", "path": "/user/scopes", "value": ["a"]}])
	main.decision.allow == true with data.portcullis.custom as {} with input as document
}

test_a_role_gives_permissions_only_where_the_data_says_so if {
	document := json.patch(call({"allOf": ["a"]}, []), [{"op": "add", "path": "/user/roles", "value": ["admin"]}])
	main.decision.allow == false with data.portcullis.custom as {} with input as document
	main.decision.allow == true with data.portcullis.custom as {} with input as document with data.config.role_permissions as {"admin": ["*"]}
}

anonymous(permissions) := json.patch(call(permissions, ["*"]), [{"op": "add", "path": "/user/type", "value": "anonymous"}])

test_an_anonymous_caller_passes_only_where_nothing_is_asked if {
	main.decision.allow == true with data.portcullis.custom as {} with input as anonymous(null)
	every permissions in [{"allOf": []}, {"allOf": ["a"]}, {"anyOf": ["a"]}] {
		main.decision.allow == false with data.portcullis.custom as {} with input as anonymous(permissions)
	}
}

test_a_document_without_permissions_says_nothing if {
	document := json.patch(call(null, ["*"]), [{"op": "remove", "path": "/resource/permissions"}])
	decision := main.decision with data.portcullis.custom as {"extra": {"allow": true}} with input as document
	support.codes(decision) == {"POLICY_EVALUATION_ERROR"}
}

test_admins_hold_what_the_gateways_own_interface_asks_for if {
	table := [
		["admin", "gateway:authorize", true], ["admin", "gateway:servers:read", true], ["admin", "approvals:decide", true],
		["admin", "gateway", false], ["admin", "keys:create", false], ["developer", "gateway:authorize", false],
	]
	every row in table {
		document := json.patch(call({"allOf": [row[1]]}, []), [{"op": "add", "path": "/user/roles", "value": [row[0]]}])
		row[2] == main.decision.allow with data.portcullis.custom as {} with input as document
		row[2] == main.decision.allow with data.portcullis.custom as {} with input as document with data.config as support.strict
	}
	service := json.patch(call({"allOf": ["gateway:authorize"]}, ["gateway:authorize"]), [{"op": "add", "path": "/user/type", "value": "service"}])
	main.decision.allow == true with data.portcullis.custom as {} with input as service
}

test_a_denial_names_what_is_missing if {
	decision := main.decision with data.portcullis.custom as {} with input as call({"allOf": ["tasks.delete", "tasks.read"]}, ["tasks.read"])
	support.codes(decision) == {"FORBIDDEN"}
	support.messages(decision) == {"Permission denied: tasks.delete is required; held: tasks.read"}
}

test_a_denial_says_when_nothing_is_held if {
	decision := main.decision with data.portcullis.custom as {} with input as call({"anyOf": ["tasks.delete", "tasks.admin"]}, [])
	support.messages(decision) == {"Permission denied: one of tasks.admin, tasks.delete is required; none is held"}
}

test_a_denial_names_twenty_of_what_is_held if {
	many := [sprintf("p%02d", [i]) | some i in numbers.range(1, 30)]
	decision := main.decision with data.portcullis.custom as {} with input as call({"allOf": ["tasks.delete"]}, many)
	some message in support.messages(decision)
	endswith(message, "p19, p20")
}

# What the gateway asks of a method that a route with permissions does not name.
test_any_of_none_is_held_by_nobody if {
	every held in [[], ["*"], ["tasks.*"]] {
		decision := main.decision with data.portcullis.custom as {} with input as call({"anyOf": []}, held)
		decision.allow == false
		some message in support.messages(decision)
		startswith(message, "Permission denied: no permission opens this method; ")
	}
	main.decision.allow == false with data.portcullis.custom as {} with input as anonymous({"anyOf": []})
}
