# METADATA
# title: Tools that are switched off
# description: |
#   An example of a package of your own: whatever stands below `portcullis.custom` takes part in every decision. This
#   one refuses the tools listed in `data.config.blocked_tools`, as `server:tool` or `server:*`.
package portcullis.custom.blocked

violations contains {"code": "FORBIDDEN", "message": "This tool is switched off", "severity": "medium"} if {
	some name in [input.tool_name, "*"]
	concat(":", [input.server_name, name]) in data.config.blocked_tools
}
