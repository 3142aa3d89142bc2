"""Stand-ins for engines that can't run everywhere: servers that follow a published protocol, with faults on command."""
