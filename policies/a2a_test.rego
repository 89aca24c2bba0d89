package portcullis.a2a_test

import data.portcullis.main
import data.portcullis.support_test as support

call(changes) := json.patch(
	support.but({
		"/action": "a2a:invoke",
		"/user/roles": [],
		"/user/type": "agent",
		"/user/mfa_verified": false,
		"/server": null,
		"/server_name": null,
		"/tool": null,
		"/tool_name": null,
		"/gateway_metadata/tool_type": "integration",
		"/gateway_metadata/sensitivity_level": "medium",
		"/resource": {"type": "agent", "id": "b", "tenant_id": "acme", "owner_id": null, "permissions": null},
		"/source_agent": {"id": "a", "name": "planner", "trust_level": "trusted", "capabilities": []},
		"/target_agent": {"id": "b", "name": "analyst", "trust_level": "limited", "capabilities": ["report", "search"]},
		"/capability": "report",
	}),
	[{"op": "add", "path": path, "value": value} | some path, value in changes],
)

decide(changes) := decision if {
	decision := main.decision with data.portcullis.custom as {} with input as call(changes)
}

# With other demands than those of the default data.
demanding(capabilities, changes) := decision if {
	decision := main.decision with data.portcullis.custom as {} with input as call(changes)
		with data.config.a2a.capabilities as capabilities
}

test_an_agent_that_is_trusted_asks_for_what_the_other_offers if {
	decide({}) == {"allow": true, "deny": [], "obligations": [], "valid_until": null}
	main.decision.allow == true with data.portcullis.custom as {} with input as call({}) with data.config as support.strict
		with time.now_ns as support.wednesday
}

test_agents_may_be_described_in_either_vocabulary if {
	table := [
		["critical", true], ["high", true], ["medium", true], ["low", false], ["untrusted", false],
		["trusted", true], ["limited", false], ["supreme", false], ["", false], ["TRUSTED", false], [null, false], [7, false],
	]
	every row in table {
		row[1] == decide({"/source_agent/trust_level": row[0]}).allow
	}
}

test_each_capability_has_a_demand_of_its_own if {
	levels := ["untrusted", "limited", "low", "medium", "trusted", "high", "critical"]
	table := {
		"low": ["limited", "low", "medium", "trusted", "high", "critical"],
		"medium": ["medium", "trusted", "high", "critical"],
		"high": ["trusted", "high", "critical"],
		"critical": ["critical"],
		"untrusted": ["limited", "low", "medium", "trusted", "high", "critical"],
		"supreme": [],
	}
	every least, enough in table {
		every level in levels {
			decision := demanding({"report": {"min_trust": least}}, {"/source_agent/trust_level": level})
			decision.allow == (level in enough)
		}
	}
}

test_a_capability_without_a_demand_is_nobodys if {
	every capabilities in [{}, {"search": {"min_trust": "low"}}, {"report": {}}, {"report": null}, {"report": {"min_trust": null}}] {
		denied := demanding(capabilities, {"/source_agent/trust_level": "critical"})
		support.messages(denied) == {"The source is not trusted enough to ask for report"}
	}
	denied := main.decision with data.portcullis.custom as {} with input as call({}) with data.config as object.remove(data.config, ["a2a"])
	denied.allow == false
}

test_a_named_demand_goes_before_that_of_the_others if {
	capabilities := {"*": {"min_trust": "low"}, "report": {"min_trust": "critical"}}
	demanding(capabilities, {}).allow == false
	demanding(capabilities, {"/capability": "search"}).allow == true
}

test_the_target_has_to_offer_it if {
	denied := decide({"/capability": "delete"})
	support.codes(denied) == {"POLICY_DENIED"}
	support.messages(denied) == {"The target does not offer delete"}
	decide({"/target_agent/capabilities": []}).allow == false
	decide({"/target_agent/capabilities": ["*"]}).allow == false
	decide({"/target_agent/capabilities": "report"}).allow == false
	every capability in [null, "", 7, ["report"], {"name": "report"}, true] {
		decide({"/capability": capability}).allow == false
	}
}

test_the_data_may_waive_the_offer if {
	every waived in [false, true, null, "false", 0] {
		decision := demanding({"*": {"min_trust": "low", "target_capability_required": waived}}, {"/capability": "delete"})
		decision.allow == (waived == false)
	}
}

test_both_ends_have_to_be_known if {
	every party in [null, "b", {}, {"id": null}, {"id": ""}] {
		denied := decide({"/target_agent": party})
		support.messages(denied) == {"Both ends of the call have to be known"}
		decide({"/source_agent": party}).allow == false
	}
	nothing := decide({"/source_agent": null, "/target_agent": null, "/capability": null})
	support.messages(nothing) == {"Both ends of the call have to be known"}
}

person := {"id": "p", "type": "user", "tenant_id": "acme", "roles": ["developer"], "tenure_months": 6}

test_a_person_asks_by_the_trust_of_role_and_tenure if {
	table := [
		[["admin"], 12, true], [["developer"], 6, true], [["developer"], null, true], [["analyst"], 60, false],
		[["guest"], 60, false], [[], 60, false],
	]
	every row in table {
		source := object.union(person, {"roles": row[0], "tenure_months": row[1]})
		row[2] == decide({"/source_agent": null, "/source_user": source}).allow
	}
	decide({"/source_agent": null, "/source_user": object.union(person, {"type": "anonymous"})}).allow == false
}

test_an_agent_is_not_trusted_for_the_person_beside_it if {
	decide({"/source_agent/trust_level": "untrusted", "/source_user": person}).allow == false
	document := json.patch(call({"/source_agent/trust_level": "untrusted", "/source_user": person}), [{"op": "remove", "path": "/source_agent"}])
	denied := main.decision with data.portcullis.custom as {} with input as document
	"POLICY_EVALUATION_ERROR" in support.codes(denied)
}

test_the_depth_is_bounded_by_the_trust_of_the_source if {
	table := [
		["critical", 4, true], ["critical", 5, false], ["high", 2, true], ["high", 3, false], ["trusted", 2, true],
		["trusted", 3, false], ["medium", 1, true], ["medium", 2, false], ["low", 0, true], ["low", 1, false],
		["limited", 0, true], ["limited", 1, false],
		["critical", -1, false], ["critical", 0.5, false], ["critical", "0", false], ["critical", null, false],
	]
	every row in table {
		decision := demanding({"*": {"min_trust": "low"}}, {
			"/source_agent/trust_level": row[0],
			"/context/delegation_depth": row[1],
		})
		row[2] == decision.allow
	}
	support.messages(decide({"/context/delegation_depth": 3})) == {"The call comes through too many hands"}
}

test_the_verified_chain_counts_where_it_is_longer if {
	decide({"/delegation_depth": 2, "/delegation_chain": [{"id": "x"}, {"id": "y"}]}).allow == true
	long := decide({"/delegation_depth": 3, "/delegation_chain": [{"id": "x"}, {"id": "y"}, {"id": "z"}]})
	support.messages(long) == {"The call comes through too many hands"}
}

test_a_depth_that_is_not_the_chains_is_not_judged if {
	every changes in [{"/delegation_depth": 1}, {"/delegation_depth": -1}, {"/delegation_chain": [{"id": "x"}]}] {
		support.codes(decide(changes)) == {"POLICY_EVALUATION_ERROR"}
	}
}

test_the_anonymous_ask_no_agent if {
	decide({"/user/type": "anonymous"}).allow == false
	decide({"/user/id": ""}).allow == false
}

test_agents_of_another_tenant_do_not_exist if {
	support.codes(decide({"/resource/tenant_id": "rival"})) == {"NOT_FOUND"}
}

test_what_the_class_asks_for_holds_here_too if {
	document := call({"/gateway_metadata/sensitivity_level": "high"})
	denied := main.decision with data.portcullis.custom as {} with input as document with data.config as support.strict
	support.codes(denied) == {"MFA_REQUIRED"}
}

delegation(changes) := json.patch(
	support.but({
		"/action": "a2a:delegate",
		"/source_user": {"id": "u1", "type": "user", "roles": ["developer"], "tenure_months": 6},
		"/target_user": {"id": "u2", "type": "user", "roles": ["developer"], "tenure_months": 5},
		"/delegation_depth": 1,
		"/delegation_chain": [{"id": "u0", "type": "user"}],
	}),
	[{"op": "add", "path": path, "value": value} | some path, value in changes],
)

test_rights_are_handed_on_to_those_who_are_trusted_no_more if {
	table := [
		[{}, true], [{"/target_user/roles": ["admin"], "/target_user/tenure_months": 12}, false],
		[{"/source_user/roles": ["guest"]}, false], [{"/source_user/type": "anonymous"}, false],
		[{"/delegation_depth": 3, "/delegation_chain": ["x", "y", "z"]}, false], [{"/delegation_depth": 0}, false],
		[{"/delegation_depth": 2, "/delegation_chain": ["x", "y"]}, true], [{"/delegation_depth": 0, "/delegation_chain": []}, true],
		[{"/delegation_depth": 1, "/delegation_chain": []}, false], [{"/user/type": "anonymous"}, false],
		[{"/context/delegation_depth": 2}, true], [{"/context/delegation_depth": 3}, false],
		[{"/context/delegation_depth": -1}, false], [{"/context/delegation_depth": 0.5}, false],
		[{"/source_user": null}, false], [{"/target_user": null}, false],
	]
	every row in table {
		row[1] == main.decision.allow with data.portcullis.custom as {} with input as delegation(row[0])
	}
}

test_with_any_fact_missing_nothing_is_more_permissive if {
	paths := [
		"/source_user", "/source_agent", "/source_agent/id", "/source_agent/trust_level", "/target_agent", "/target_agent/id",
		"/target_agent/capabilities", "/capability", "/context", "/context/delegation_depth", "/delegation_depth",
		"/delegation_chain", "/user", "/user/id", "/server", "/resource", "/gateway_metadata", "/rate_limit",
		"/gateway_metadata/sensitivity_level",
	]
	every path in paths {
		document := json.patch(call({}), [{"op": "remove", "path": path}])
		main.decision.allow == false with data.portcullis.custom as {} with input as document
	}
	others := [
		"/source_user", "/source_user/type", "/source_user/roles", "/target_user", "/target_user/roles",
		"/target_user/tenure_months", "/context", "/context/delegation_depth", "/delegation_depth", "/delegation_chain", "/gateway_metadata/sensitivity_level",
	]
	every path in others {
		document := json.patch(delegation({}), [{"op": "remove", "path": path}])
		main.decision.allow == false with data.portcullis.custom as {} with input as document
	}
}

test_a_refused_delegation_says_what_is_trusted_how_and_where_that_is_set if {
	table := [
		[{"/source_user/roles": ["guest"]}, ["as \"untrusted\"", "to nobody", "data.config.trust.roles"]],
		[
			{"/source_user/roles": ["analyst"], "/target_user/roles": ["developer"]},
			["as \"low\"", "is to act as \"medium\"", "at least as much", "data.config.trust.roles"],
		],
		[
			{"/delegation_depth": 3, "/delegation_chain": ["x", "y", "z"]},
			["as \"high\"", "fewer hands", "data.config.trust.max_depth"],
		],
		[{"/source_user": null}, ["have to be known"]], [{"/target_user": null}, ["have to be known"]],
		[{"/source_user/type": "anonymous"}, ["No rule allows this delegation"]],
	]
	every row in table {
		decision := main.decision with data.portcullis.custom as {} with input as delegation(row[0])
		every part in row[1] {
			contains(decision.deny[0].message, part)
		}
		every reason in decision.deny {
			reason.code != "POLICY_EVALUATION_ERROR"
		}
	}
}
