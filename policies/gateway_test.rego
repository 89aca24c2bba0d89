package mcp.gateway_test

import data.mcp.gateway
import data.portcullis.support_test as support

types := ["query", "analytics", "mutation", "integration", "admin", "custom"]

levels := ["low", "medium", "high", "critical"]

# The table a person would write: which classes a role may run, apart from approval and production.
may := {
	"admin": {type: {"low", "medium", "high", "critical"} | some type in types},
	"developer": {"query": {"low", "medium"}, "analytics": {"low", "medium"}},
	"user": {"query": {"low", "medium"}, "analytics": {"low", "medium"}},
	"analyst": {"analytics": {"low", "medium"}},
	"data_engineer": {type: {"low", "medium", "high"} | some type in ["query", "mutation", "analytics"]},
	"viewer": {"query": {"low"}},
	"none": {},
}

expected(role, type, level, production, approved) if {
	level in may[role][type]
	not bars_approval(level, approved)
	not bars_production(role, production)
}

bars_approval("critical", false)

bars_production("data_engineer", true)

place(true) := "production"

place(false) := "staging"

case(role, type, level, production, approved) := support.but({
	"/user/roles": [role],
	"/gateway_metadata/tool_type": type,
	"/gateway_metadata/sensitivity_level": level,
	"/gateway_metadata/approval/verified": approved,
	"/server/environment": place(production),
})

cases := [[role, type, level, production, approved] |
	some role in object.keys(may)
	some type in types
	some level in levels
	some production in [true, false]
	some approved in [true, false]
]

test_every_role_type_and_level_is_allowed_as_the_table_says if {
	count(cases) == 7 * 96
	every each in cases {
		[role, type, level, production, approved] := each
		document := case(role, type, level, production, approved)
		wanted := {true | expected(role, type, level, production, approved)}
		{true | gateway.allow with input as document} == wanted
	}
}

test_the_golden_matrix_allows_126_of_480 if {
	allowed := [each |
		some each in cases
		[role, type, level, production, approved] := each
		not role in {"user", "viewer"}
		gateway.allow with input as case(role, type, level, production, approved)
	]
	count(allowed) == 126
}

test_a_list_shows_exactly_what_could_be_called if {
	every role in object.keys(may) {
		every production in [true, false] {
			elements := [{
				"action": "gateway:tool:discover",
				"tool_name": concat("_", [type, level]),
				"gateway_metadata": {"tool_type": type, "sensitivity_level": level},
			} |
				some type in types
				some level in levels
			]
			document := json.patch(case(role, "query", "low", production, false), [
				{"op": "add", "path": "/calls", "value": elements},
				{"op": "add", "path": "/action", "value": "gateway:tool:discover"},
			])
			decisions := data.portcullis.main.decisions with data.portcullis.custom as {} with input as document
			every index, element in elements {
				class := element.gateway_metadata
				shown := {true | expected(role, class.tool_type, class.sensitivity_level, production, true)}
				{true | decisions[index].allow} == shown
			}
		}
	}
}

# A tool that runs any statement, as the gateway describes it in a list.
runner(level, possible) := {
	"action": "gateway:tool:discover",
	"tool_name": "execute_query",
	"gateway_metadata": {"tool_type": "query", "sensitivity_level": level, "possible_classes": possible},
}

any_statement := {"analytics": "low", "mutation": "medium", "admin": "critical"}

# Alone and as an element of a list.
shown(role, element, production) := answer if {
	document := json.patch(case(role, "query", "low", production, false), [
		{"op": "add", "path": "/action", "value": "gateway:tool:discover"},
		{"op": "add", "path": "/parameters", "value": null},
		{"op": "add", "path": "/calls", "value": [element]},
	])
	[listed] := [decision.allow | some decision in data.portcullis.main.decisions] with data.portcullis.custom as {} with input as document
	alone := data.portcullis.main.decision.allow with data.portcullis.custom as {} with input as object.union(document, element)
	listed == alone
	answer := alone
}

test_a_tool_that_runs_any_statement_is_shown_to_whoever_may_run_some if {
	table := [
		["admin", true], ["developer", true], ["data_engineer", true], ["analyst", true], ["user", true],
		["viewer", true], ["guest", false], ["stranger", false],
	]
	every row in table {
		row[1] == shown(row[0], runner("low", any_statement), false)
	}
	# Without the other classes an analyst may do nothing with it.
	shown("analyst", runner("low", {}), false) == false
}

test_what_arguments_could_make_of_a_tool_is_held_against_the_levels if {
	raised := runner("high", {"analytics": "high", "mutation": "high", "admin": "critical"})
	table := [["admin", true], ["data_engineer", true], ["developer", false], ["analyst", false], ["viewer", false]]
	every row in table {
		row[1] == shown(row[0], raised, false)
	}
	shown("data_engineer", raised, true) == false
}

test_a_role_for_mutations_alone_is_shown_what_can_mutate if {
	access := {"writer": {"mutation": {"levels": ["medium"]}}}
	shown("writer", runner("low", any_statement), false) == true with data.config.tool_access as access
	shown("writer", runner("low", {"analytics": "low"}), false) == false with data.config.tool_access as access
	shown("writer", runner("low", {"mutation": "high"}), false) == false with data.config.tool_access as access
}

test_possible_classes_open_a_list_and_no_call if {
	document := json.patch(case("analyst", "query", "low", false, false), [{
		"op": "add", "path": "/gateway_metadata/possible_classes", "value": any_statement,
	}])
	not gateway.allow with input as document
}

test_several_roles_allow_what_any_of_them_allows if {
	document := json.patch(support.classed("analyst", "query", "low"), [{
		"op": "add", "path": "/user/roles", "value": ["analyst", "developer"],
	}])
	gateway.allow with input as document
}

test_every_place_is_production_where_the_data_names_none if {
	document := case("data_engineer", "query", "low", false, false)
	gateway.allow with input as document
	without := json.remove(data.config, ["production_names"])
	not gateway.allow with input as document with data.config as without
}

test_production_is_the_servers_word_in_any_spelling if {
	every spelling in ["production", "Production", " PRODUCTION ", "prod"] {
		document := json.patch(support.classed("data_engineer", "mutation", "low"), [{
			"op": "add", "path": "/server/environment", "value": spelling,
		}])
		not gateway.allow with input as document
	}
}

test_a_caller_can_raise_to_production_but_not_lower if {
	raised := json.patch(support.classed("data_engineer", "mutation", "low"), [{
		"op": "add", "path": "/parameters/environment", "value": "Production",
	}])
	lowered := json.patch(support.classed("data_engineer", "mutation", "low"), [
		{"op": "add", "path": "/server/environment", "value": "production"},
		{"op": "add", "path": "/parameters/environment", "value": "staging"},
	])
	not gateway.allow with input as raised
	not gateway.allow with input as lowered
}

test_a_token_that_nobody_verified_is_no_approval if {
	document := json.patch(support.classed("admin", "admin", "critical"), [
		{"op": "add", "path": "/gateway_metadata/approval_token", "value": "x"},
		{"op": "add", "path": "/gateway_metadata/approval/present", "value": true},
	])
	not gateway.allow with input as document
}

test_a_registered_tool_type_is_granted_by_data_alone if {
	document := support.classed("analyst", "billing", "low")
	not gateway.allow with input as document
	gateway.allow with input as document
		with data.config.tool_access.analyst as {"billing": {"levels": ["low"]}}
}

test_other_actions_need_a_role if {
	actions := [
		"gateway:prompt:discover", "gateway:prompt:get", "gateway:resource:discover", "gateway:resource:read",
		"gateway:server:list", "gateway:server:info",
	]
	every action in actions {
		gateway.allow with input as support.but({"/action": action, "/user/roles": ["guest"]})
		not gateway.allow with input as support.but({"/action": action, "/user/roles": []})
	}
}

test_a_tag_may_reserve_prompts_and_resources if {
	document := support.but({"/action": "gateway:resource:read", "/server/tags": ["restricted"]})
	gateway.allow with input as document
	not gateway.allow with input as document with data.config.tag_roles as {"restricted": ["admin"]}
}

test_talk_about_the_protocol_is_open_to_whoever_is_known if {
	gateway.allow with input as support.but({"/action": "mcp:protocol", "/user/roles": []})
	not gateway.allow with input as support.but({"/action": "mcp:protocol", "/user/type": "anonymous"})
}

test_a_task_belongs_to_its_creator if {
	gateway.allow with input as support.but({"/action": "gateway:task:access", "/resource/owner_id": "u1"})
	not gateway.allow with input as support.but({"/action": "gateway:task:access", "/resource/owner_id": "u2"})
	not gateway.allow with input as support.but({"/action": "gateway:task:access", "/user/id": null})
}

test_a_server_may_ask_back_only_what_it_declares if {
	asked := {
		"gateway:sampling:create": "sampling",
		"gateway:elicitation:create": "elicitation",
		"gateway:roots:list": "roots",
	}
	every action, name in asked {
		gateway.allow with input as support.but({"/action": action, "/server/allow": [name]})
		not gateway.allow with input as support.but({"/action": action})
	}
}

test_every_other_action_is_denied if {
	actions := [
		"gateway:method:call", "gateway:server:access", "a2a:invoke", "responses:read", "responses:delete", "keys:create",
		"approvals:decide", "admin:reload", "conversations:read", "invented", "",
	]
	every action in actions {
		not gateway.allow with input as support.but({"/action": action, "/user/roles": ["admin"]})
	}
}

test_an_anonymous_caller_gets_what_is_listed_and_granted if {
	document := support.but({"/user/type": "anonymous", "/user/roles": ["admin"]})
	not gateway.allow with input as document
	not gateway.allow with input as document with data.config.anonymous as ["gateway:tool:invoke"]
	gateway.allow with input as document
		with data.config.anonymous as ["gateway:tool:invoke"]
		with data.config.tool_access.anonymous as {"query": {"levels": ["low"]}}
	gateway.allow with input as support.but({"/user/type": "anonymous", "/action": "mcp:protocol"})
		with data.config.anonymous as ["mcp:protocol"]
}
