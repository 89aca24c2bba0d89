# METADATA
# title: Facts that have to be there
# description: |
#   The names of what the document does not say and a rule would look at. Asked for only when something is missing: whoever
#   wrote the document, or the gateway that did, is told what.
package portcullis.facts

import data.mcp.gateway.context
import data.portcullis.a2a
import data.portcullis.http

missing(call, action) := {name | some name in names; lacks(name, call, action)}

names := {
	"capability", "context.delegation_depth", "delegation_chain", "delegation_depth", "gateway_metadata.sensitivity_level",
	"resource.permissions", "resource.tenant_id", "server", "server.data_region", "server.tags", "server_name",
	"source_agent", "source_user", "target_agent", "target_user", "tool.requires_hitl", "tool_name",
}

lacks("server", call, _) if not server_described(call)

lacks("server.data_region", call, _) if {
	server_described(call)
	is_object(call.server)
	not region_known(call)
}

lacks("server.tags", call, _) if {
	server_described(call)
	is_object(call.server)
	not tags_known(call)
}

lacks("server_name", call, _) if not server_named(call)

lacks("tool_name", call, _) if not tool_named(call)

lacks("resource.tenant_id", call, _) if not tenant_known(call)

lacks("gateway_metadata.sensitivity_level", call, action) if {
	not context.ungraded(action)
	not level_known(call)
}

lacks("tool.requires_hitl", call, "gateway:tool:invoke") if not consent_known(call)

lacks("resource.permissions", call, action) if {
	startswith(action, "http:")
	not http.has_demands(call)
}

lacks("delegation_depth", call, _) if not depth_known(call)

lacks("delegation_chain", call, action) if {
	a2a.facts_missing(call, action)
	not chain_known(call)
}

lacks("context.delegation_depth", call, action) if {
	a2a.facts_missing(call, action)
	not context_known(call)
}

lacks("source_agent", call, "a2a:invoke") if not names_source_agent(call)

lacks("source_user", call, "a2a:invoke") if not names_source_user(call)

lacks("target_agent", call, "a2a:invoke") if not names_target_agent(call)

lacks("capability", call, "a2a:invoke") if not names_capability(call)

lacks("source_user", call, "a2a:delegate") if {
	not call.target_user == null
	not call.source_user == null
	not source_described(call)
}

lacks("target_user", call, "a2a:delegate") if {
	not call.target_user == null
	not call.source_user == null
	not target_described(call)
}

# Rules of their own: a call with an argument that is not there has no value, and neither has its negation.
source_described(call) if is_string(call.source_user.type)

target_described(call) if {
	is_array(call.target_user.roles)
	a2a.is_there(call.target_user.tenure_months)
}

tags_known(call) if is_array(call.server.tags)

level_known(call) if is_string(call.gateway_metadata.sensitivity_level)

consent_known(call) if is_boolean(call.tool.requires_hitl)

depth_known(call) if {
	is_number(call.delegation_depth)
	call.delegation_depth >= 0
}

chain_known(call) if count(call.delegation_chain) == call.delegation_depth

context_known(call) if is_number(call.context.delegation_depth)

names_source_agent(call) if a2a.is_there(call.source_agent)

names_source_user(call) if a2a.is_there(call.source_user)

names_target_agent(call) if a2a.is_there(call.target_agent)

names_capability(call) if a2a.is_there(call.capability)

# What the gateway says of every call: which server it goes to, and whose the thing is. Null says that there is none.
server_known(call) := true if {
	is_boolean(call.server.enabled)
	is_array(call.server.tags)
	region_known(call)
} else := true if call.server == null

server_described(call) if is_boolean(call.server.enabled)

server_described(call) if call.server == null

region_known(call) := true if {
	call.server.data_region == null
} else := true if is_string(call.server.data_region)

# Lists and limits go by these names.
named(call) if {
	server_named(call)
	tool_named(call)
}

server_named(call) := true if {
	is_string(call.server_name)
} else := true if call.server_name == null

tool_named(call) := true if {
	is_string(call.tool_name)
} else := true if call.tool_name == null

tenant_known(call) := true if {
	is_string(call.resource.tenant_id)
} else := true if call.resource.tenant_id == null
