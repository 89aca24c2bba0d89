package mcp.gateway.trust_test

import data.mcp.gateway.trust
import data.portcullis.support_test as support

test_trust_follows_role_and_tenure if {
	table := [
		[["admin"], 24, "critical"], [["admin"], 12, "critical"], [["admin"], 11, "high"], [["admin"], null, "high"],
		[["developer"], 6, "high"], [["developer"], 5, "medium"], [["developer"], null, "medium"],
		[["data_engineer"], 6, "high"], [["data_engineer"], 5, "medium"],
		[["analyst"], 24, "low"], [["guest"], 24, "untrusted"], [[], 24, "untrusted"],
		[["analyst", "admin"], 12, "critical"],
	]
	every row in table {
		document := {"user": {"roles": row[0], "tenure_months": row[1]}}
		row[2] == trust.user_trust_level with input as document
	}
}

test_trust_without_a_tenure_member_is_that_of_a_newcomer if {
	"high" == trust.user_trust_level with input as {"user": {"roles": ["admin"]}}
	"untrusted" == trust.user_trust_level with input as {}
}

test_a_level_without_a_rank_is_not_trusted if trust.rank_of("supreme") == 1

delegation(source, target, depth) := {
	"action": "a2a:delegate",
	"source_user": source,
	"target_user": target,
	"delegation_depth": depth,
}

admin24 := {"id": "a", "roles": ["admin"], "tenure_months": 24}

admin_new := {"id": "n", "roles": ["admin"], "tenure_months": null}

dev6 := {"id": "d", "roles": ["developer"], "tenure_months": 6}

dev5 := {"id": "e", "roles": ["developer"], "tenure_months": 5}

analyst := {"id": "y", "roles": ["analyst"], "tenure_months": 5}

guest := {"id": "g", "roles": ["guest"], "tenure_months": 50}

test_delegation_needs_as_much_trust_and_room_in_depth if {
	table := [
		[admin24, dev6, 1, true], [admin24, dev6, 4, true], [admin24, dev6, 5, false],
		[admin24, dev6, 0, true], [admin24, dev6, -1, false], [admin24, dev6, -7, false], [admin24, dev6, 1.5, false],
		[admin24, dev6, "1", false], [admin24, dev6, null, false],
		[dev6, dev5, 2, true], [dev6, dev5, 3, false], [dev5, dev5, 1, true], [dev5, dev5, 2, false],
		[analyst, analyst, 0, true], [analyst, analyst, 1, false],
		[dev5, dev6, 1, false], [admin_new, admin24, 1, false],
		[guest, guest, 0, false], [guest, guest, -7, false],
	]
	every row in table {
		row[3] == trust.allow_delegation with input as delegation(row[0], row[1], row[2])
	}
}

test_delegation_is_its_own_action if {
	document := object.union(delegation(admin24, dev6, 1), {"action": "a2a:invoke"})
	not trust.allow_delegation with input as document
}

test_a_chain_of_another_length_is_refused if {
	document := delegation(admin24, dev6, 1)
	trust.allow_delegation with input as object.union(document, {"delegation_chain": ["x"]})
	not trust.allow_delegation with input as object.union(document, {"delegation_chain": ["x", "y"]})
}

test_the_greatest_depth_follows_the_source if {
	table := [[admin24, 5], [dev6, 3], [dev5, 2], [analyst, 1], [guest, 1]]
	every row in table {
		row[1] == trust.max_delegation_depth with input as delegation(row[0], dev5, 0)
	}
}

hours_text := "Critical operations only allowed during work hours (9 AM - 5 PM UTC)"

weekend_text := "Critical operations not allowed on weekends"

test_critical_work_is_for_work_hours if {
	table := [
		["2025-01-15T08:59:59Z", {hours_text}], ["2025-01-15T09:00:00Z", set()],
		["2025-01-15T16:59:59Z", set()], ["2025-01-15T17:00:00Z", {hours_text}],
		["2025-01-17T16:59:59Z", set()], ["2025-01-18T10:00:00Z", {weekend_text}],
		["2025-01-19T10:00:00Z", {weekend_text}], ["2025-01-20T09:00:00Z", set()],
		["2025-01-18T20:00:00Z", {hours_text, weekend_text}],
	]
	document := {"action": "gateway:tool:invoke", "gateway_metadata": {"sensitivity_level": "critical"}}
	every row in table {
		row[1] == trust.deny with input as document
			with data.config as support.strict
			with time.now_ns as time.parse_rfc3339_ns(row[0])
	}
}

test_other_levels_do_not_ask_for_the_time if {
	every level in ["low", "medium", "high"] {
		document := {"action": "gateway:tool:invoke", "gateway_metadata": {"sensitivity_level": level}}
		set() == trust.deny with input as document
			with data.config as support.strict
			with time.now_ns as time.parse_rfc3339_ns("2025-01-18T20:00:00Z")
	}
}

test_the_default_data_knows_no_work_hours if {
	document := {"action": "gateway:tool:invoke", "gateway_metadata": {"sensitivity_level": "critical"}}
	set() == trust.deny with input as document with time.now_ns as time.parse_rfc3339_ns("2025-01-18T20:00:00Z")
}

test_hours_that_are_missing_in_the_data_deny if {
	document := {"action": "gateway:tool:invoke", "gateway_metadata": {"sensitivity_level": "critical"}}
	denied := trust.deny with input as document
		with data.config as object.remove(support.strict, ["work_hours"])
		with time.now_ns as support.wednesday
	count(denied) > 0
}

test_the_next_change_is_the_next_edge if {
	table := [
		["2025-01-15T08:00:00Z", "2025-01-15T09:00:00Z"], ["2025-01-15T10:30:00Z", "2025-01-15T17:00:00Z"],
		["2025-01-15T17:00:00Z", "2025-01-16T00:00:00Z"], ["2025-01-15T09:00:00Z", "2025-01-15T17:00:00Z"],
	]
	every row in table {
		next := trust.next_change with data.config as support.strict
			with time.now_ns as time.parse_rfc3339_ns(row[0])
		next == time.parse_rfc3339_ns(row[1])
	}
}

test_work_hours_can_be_asked_about if {
	trust.allow_critical_during_work_hours with data.config as support.strict with time.now_ns as support.wednesday
	not trust.allow_critical_during_work_hours with data.config as support.strict
		with time.now_ns as time.parse_rfc3339_ns("2025-01-18T10:00:00Z")
}
