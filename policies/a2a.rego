# METADATA
# title: Calls between agents
# description: |
#   `a2a:delegate` hands rights on (see `mcp.gateway.trust`); `a2a:invoke` asks another agent for a capability. How far the
#   source has to be trusted for which capability is data (`data.config.a2a`). The host looked both ends up: what is not
#   known is not trusted.
package portcullis.a2a

import data.mcp.gateway
import data.mcp.gateway.trust

permitted(call, action) if {
	action == "a2a:delegate"
	gateway.authenticated
	trust.allow_delegation
	less_deep(call, trust.max_delegation_depth)
}

permitted(call, action) if {
	action == "a2a:invoke"
	gateway.authenticated
	ends_known(call)
	trusted(call)
	offered(call)
	less_deep(call, max_depth(call))
}

# --- both ends -------------------------------------------------------------------------------------------------------

ends_known(call) if {
	has_id(source(call))
	has_id(call.target_agent)
}

has_id(party) if {
	is_string(party.id)
	party.id != ""
	not party.type == "anonymous"
}

# A person calls where the gateway says that no agent does.
source(call) := call.source_agent if is_object(call.source_agent)

else := call.source_user if {
	call.source_agent == null
	is_object(call.source_user)
}

# --- trust -----------------------------------------------------------------------------------------------------------

source_level(call) := agent_level(call.source_agent) if is_object(call.source_agent)

else := trust.trust_level_of(call.source_user) if {
	call.source_agent == null
	is_object(call.source_user)
} else := "untrusted"

# Agents may be described in words of their own; `trust_names` says what they mean.
agent_level(agent) := object.get(names, agent.trust_level, agent.trust_level) if {
	is_string(agent.trust_level)
} else := "untrusted"

default names := {}

names := data.config.a2a.trust_names

source_rank(call) := trust.rank_of(source_level(call))

trusted(call) if {
	source_rank(call) > trust.rank_of("untrusted")
	source_rank(call) >= demanded_rank(call)
}

# --- capability ------------------------------------------------------------------------------------------------------

capability(call) := call.capability if {
	is_string(call.capability)
	call.capability != ""
}

# What the data asks for this capability, else for those it does not name. Without either, nobody may have it.
demand(call) := named if {
	named := data.config.a2a.capabilities[capability(call)]
} else := data.config.a2a.capabilities["*"] if capability(call)

# A level that is not ranked is reached by nobody.
demanded_rank(call) := rank if {
	rank := data.config.trust.ranks[demand(call).min_trust]
	is_number(rank)
}

offered(call) if capability(call) in call.target_agent.capabilities

offered(call) if {
	capability(call)
	demand(call).target_capability_required == false
}

# --- depth -----------------------------------------------------------------------------------------------------------

# Of what the call says and what the verified chain says, the greater counts.
depths(call) := [call.context.delegation_depth, call.delegation_depth]

less_deep(call, limit) if {
	every depth in depths(call) {
		is_number(depth)
		depth >= 0
		floor(depth) == depth
		depth < limit
	}
}

max_depth(call) := trust.depth_at(source_level(call))

# --- facts -----------------------------------------------------------------------------------------------------------

# The gateway writes these members into every document; null says that there is none.
facts_missing(call, action) if {
	action == "a2a:invoke"
	not invocation_described(call)
}

facts_missing(call, action) if {
	action == "a2a:delegate"
	not delegation_described(call)
}

invocation_described(call) if {
	is_there(call.source_user)
	is_there(call.source_agent)
	is_there(call.target_agent)
	is_there(call.capability)
	chain_described(call)
}

delegation_described(call) if {
	chain_described(call)
	call.source_user == null
}

delegation_described(call) if {
	chain_described(call)
	call.target_user == null
}

# The less is known of the target, the less it is trusted, and the easier it is to reach.
delegation_described(call) if {
	chain_described(call)
	is_string(call.source_user.type)
	is_array(call.target_user.roles)
	is_there(call.target_user.tenure_months)
}

# The depth is the length of the chain that was verified; where they disagree, one of them is wrong.
chain_described(call) if {
	is_number(call.context.delegation_depth)
	is_array(call.delegation_chain)
	count(call.delegation_chain) == call.delegation_depth
}

is_there(_) := true

# --- no rule ---------------------------------------------------------------------------------------------------------

refusal(call) := lending_refusal(call) if {
	call.action == "a2a:delegate"
} else := "Both ends of the call have to be known" if {
	not ends_known(call)
} else := "No capability is asked for" if {
	not capability(call)
} else := concat("", ["The source is not trusted enough to ask for ", call.capability]) if {
	not trusted(call)
} else := concat("", ["The target does not offer ", call.capability]) if {
	not offered(call)
} else := "The call comes through too many hands" if {
	not less_deep(call, max_depth(call))
} else := "No rule allows this call"

# Of the first thing that stands against it: what is, what is needed, and which data say so.
lending_refusal(call) := "Both who lends and who is to act have to be known" if {
	not is_object(call.source_user)
} else := "Both who lends and who is to act have to be known" if {
	not is_object(call.target_user)
} else := concat("", [
	"Who lends is trusted as \"", lender_level(call), "\" and may lend to nobody: a role that gives more is needed ",
	"(data.config.trust.roles)",
]) if {
	not lender_rank(call) > trust.rank_of("untrusted")
} else := concat("", [
	"Who lends is trusted as \"", lender_level(call), "\" and who is to act as \"", actor_level(call), "\": who lends ",
	"has to be trusted at least as much (levels by role and tenure: data.config.trust.roles)",
]) if {
	not lender_rank(call) >= trust.rank_of(actor_level(call))
} else := concat("", [
	"Who lends is trusted as \"", lender_level(call), "\", and rights lent at that level go through fewer hands ",
	"(data.config.trust.max_depth)",
]) if {
	not less_deep(call, trust.max_delegation_depth)
} else := "No rule allows this delegation"

lender_level(call) := trust.trust_level_of(call.source_user)

lender_rank(call) := trust.rank_of(lender_level(call))

actor_level(call) := trust.trust_level_of(call.target_user)
