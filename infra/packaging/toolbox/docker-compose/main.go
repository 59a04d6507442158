// The `docker compose` plugin, for lab hosts: Debian 12 has only the Python docker-compose 1.29.
// `go install` refuses the module's own command (its go.mod has exclude directives), so this is that command, shortened.
package main

import (
	"os"

	"github.com/docker/cli/cli-plugins/metadata"
	"github.com/docker/cli/cli-plugins/plugin"
	"github.com/docker/cli/cli/command"
	"github.com/docker/compose/v2/cmd/compatibility"
	commands "github.com/docker/compose/v2/cmd/compose"
	"github.com/docker/compose/v2/cmd/prompt"
	"github.com/docker/compose/v2/pkg/compose"
	"github.com/spf13/cobra"
)

// version is set by the linker, together with compose's own.
var version = "unknown"

func main() {
	if plugin.RunningStandalone() {
		os.Args = append([]string{"docker"}, compatibility.Convert(os.Args[1:])...)
	}
	plugin.Run(func(cli command.Cli) *cobra.Command {
		service := compose.NewComposeService(cli, compose.WithPrompt(prompt.NewPrompt(cli.In(), cli.Out()).Confirm))
		root := commands.RootCommand(cli, service)
		before := root.PersistentPreRunE
		root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
			if err := plugin.PersistentPreRunE(cmd, args); err != nil {
				return err
			}
			if before != nil {
				return before(cmd, args)
			}
			return nil
		}
		return root
	}, metadata.Metadata{SchemaVersion: "0.1.0", Vendor: "Docker Inc.", Version: version},
		command.WithUserAgent("compose/"+version))
}
