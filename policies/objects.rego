# METADATA
# title: Stored objects
# description: |
#   Responses and conversations belong to whoever made them. Roles may be given actions on the objects of others in their
#   own tenant (`data.config.object_roles`); nothing reaches across tenants.
package portcullis.objects

import data.mcp.gateway

on_one := {
	"responses:read", "responses:delete",
	"conversations:read", "conversations:write", "conversations:delete",
}

# These name no object yet. A list is filtered object by object, with the action that reads one.
at_large := {"responses:list", "conversations:create"}

permitted(_, action) if {
	action in at_large
	gateway.authenticated
	gateway.has_role
}

permitted(call, action) if {
	action in on_one
	gateway.authenticated
	in_own_tenant(call)
	call.resource.owner_id == input.user.id
}

permitted(call, action) if {
	action in on_one
	gateway.authenticated
	in_own_tenant(call)
	given(action)
}

in_own_tenant(call) if {
	is_string(call.resource.tenant_id)
	call.resource.tenant_id == input.user.tenant_id
}

given(action) if {
	some role in gateway.roles
	action in data.config.object_roles[role]
}

# What one may not read is as if it were not there.
hidden(call, action) if {
	action in on_one
	not permitted(call, reading(action))
}

reading(action) := concat(":", [split(action, ":")[0], "read"])
