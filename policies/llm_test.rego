package portcullis.llm_test

import data.portcullis.llm
import data.portcullis.main
import data.portcullis.support_test as support

call(role, action, model, max_tokens) := support.but({
	"/action": action,
	"/user/roles": [role],
	"/server": null,
	"/server_name": null,
	"/resource": {"type": "model", "id": model, "tenant_id": null, "owner_id": null, "permissions": null},
	"/llm": {"model": model, "resolved_model": null, "max_tokens": max_tokens},
})

actions := ["llm:chat:create", "llm:responses:create", "llm:messages:create", "llm:embeddings:create", "llm:models:list"]

test_the_five_roles_may_use_models_and_others_not if {
	every action in actions {
		every role in ["user", "developer", "data_engineer", "analyst", "admin"] {
			main.decision.allow == true with data.portcullis.custom as {} with input as call(role, action, "any", null)
		}
		every role in ["viewer", "guest"] {
			main.decision.allow == false with data.portcullis.custom as {} with input as call(role, action, "any", null)
		}
	}
}

limited := {"analyst": {"models": ["small", "gpt-4*"], "max_tokens": 100}}

test_models_are_named_exactly_or_by_a_star_at_the_end if {
	table := [["small", true], ["smaller", false], ["gpt-4", true], ["gpt-4o", true], ["gpt-3", false]]
	every row in table {
		row[1] == main.decision.allow with data.portcullis.custom as {} with input as call("analyst", "llm:chat:create", row[0], 100)
			with data.config.llm.roles as limited
	}
}

test_the_name_a_model_stands_for_counts_too if {
	document := json.patch(call("analyst", "llm:chat:create", "alias", 100), [
		{"op": "add", "path": "/llm/resolved_model", "value": "small"},
		{"op": "add", "path": "/resource/id", "value": "alias"},
	])
	main.decision.allow == true with data.portcullis.custom as {} with input as document with data.config.llm.roles as limited
}

test_a_ceiling_holds_and_wants_a_figure if {
	table := [[100, true], [101, false], [null, false], [1, true]]
	every row in table {
		row[1] == main.decision.allow with data.portcullis.custom as {} with input as call("analyst", "llm:chat:create", "small", row[0])
			with data.config.llm.roles as limited
	}
	denied := main.decision with data.portcullis.custom as {} with input as call("analyst", "llm:chat:create", "small", 101)
		with data.config.llm.roles as limited
	support.messages(denied) == {"The model small is allowed for these roles only with max_tokens of at most 100"}
}

test_embeddings_have_no_ceiling if {
	main.decision.allow == true with data.portcullis.custom as {} with input as call("analyst", "llm:embeddings:create", "small", null)
		with data.config.llm.roles as limited
}

test_a_list_of_models_shows_those_that_may_be_used if {
	elements := [{
		"action": "llm:models:list",
		"resource": {"type": "model", "id": name, "tenant_id": null},
		"llm": {"model": name, "resolved_model": null, "max_tokens": null},
	} |
		some name in ["small", "large", "gpt-4o"]
	]
	document := json.patch(call("analyst", "llm:models:list", null, null), [{
		"op": "add", "path": "/calls", "value": elements,
	}])
	[true, false, true] == [decision.allow | some decision in main.decisions] with data.portcullis.custom as {} with input as document
		with data.config.llm.roles as limited
}

test_an_anonymous_caller_uses_no_model if {
	document := json.patch(call("admin", "llm:chat:create", "small", 1), [{
		"op": "add", "path": "/user/type", "value": "anonymous",
	}])
	main.decision.allow == false with data.portcullis.custom as {} with input as document
}

test_patterns_have_no_other_wildcards if {
	not llm.matches("g*4", "gpt4")
	not llm.matches("", "gpt4")
	llm.matches("*", "gpt4")
}
