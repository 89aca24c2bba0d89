# METADATA
# title: Model rules
# description: Which roles may use which models, and how long an answer they may ask for (`data.config.llm.roles`).
package portcullis.llm

import data.mcp.gateway

generating := {"llm:chat:create", "llm:responses:create", "llm:messages:create"}

modelling := generating | {"llm:embeddings:create", "llm:models:list"}

# What the caller's roles were given.
grants := [grant |
	some role in gateway.roles
	grant := data.config.llm.roles[role]
]

permitted(call, action) if {
	action in modelling
	gateway.may_try(action)
	some grant in grants
	serves(grant, call)
	length_fits(grant, call)
}

# The list itself, before its entries are looked at.
permitted(call, action) if {
	action == "llm:models:list"
	gateway.may_try(action)
	count(grants) > 0
	names(call) == set()
}

# Either name will do: the one the caller used or the one it stands for.
serves(grant, call) if {
	some name in names(call)
	some pattern in grant.models
	matches(pattern, name)
}

names(call) := {name |
	some name in [call.llm.model, call.llm.resolved_model]
	is_string(name)
} | {call.resource.id | call.resource.type == "model"; is_string(call.resource.id)}

matches(pattern, name) if pattern == name

# A star at the end stands for any rest.
matches(pattern, name) if {
	endswith(pattern, "*")
	startswith(name, substring(pattern, 0, count(pattern) - 1))
}

length_fits(_, call) if not call.action in generating

length_fits(grant, _) if grant.max_tokens == null

# With a ceiling the request has to name its length: a missing one is as long as the model likes.
length_fits(grant, call) if {
	is_number(call.llm.max_tokens)
	# Numbers are less than anything that is none.
	is_number(grant.max_tokens)
	call.llm.max_tokens <= grant.max_tokens
}

# What an answer may cost holds for a model that the caller's roles name, whatever else allows it.
violations(call, action) := [{
	"package": "portcullis.llm",
	"code": "POLICY_DENIED",
	"message": refusal(call),
	"severity": "medium",
}] if {
	action in generating
	served(call)
	not affordable(call)
} else := []

served(call) if {
	some grant in grants
	serves(grant, call)
}

affordable(call) if {
	some grant in grants
	serves(grant, call)
	length_fits(grant, call)
}

# Why a model call found no rule, in words the caller can act on.
refusal(call) := concat("", ["The model ", label(call), " is allowed for these roles only with max_tokens of at most ", format_int(ceiling(call), 10)]) if {
	ceiling(call) > 0
} else := concat("", ["No rule lets this caller use the model ", label(call)])

label(call) := call.llm.model if is_string(call.llm.model)

else := "asked for"

ceiling(call) := max([grant.max_tokens |
	call.action in generating
	some grant in grants
	serves(grant, call)
	is_number(grant.max_tokens)
])
