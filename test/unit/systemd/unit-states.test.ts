import t from "tap";
import { parseUnits } from "../../../src/systemd/unit-states.ts";

const shown = `Id=ec2metaproxy.service
LoadState=loaded
ActiveState=activating
SubState=auto-restart
UnitFileState=enabled
Result=exit-code
NRestarts=7
ExecMainStatus=69
User=ec2metaproxy
Environment=A=b
EnvironmentFiles=/etc/ec2metaproxy/environment (ignore_errors=yes)
EnvironmentFiles=/etc/more (ignore_errors=no)
ExecStart={ path=/usr/bin/ec2metaproxy ; argv[]=/usr/bin/ec2metaproxy serve -c /etc/ec2metaproxy/config.json --guard /run/g.sock ; ignore_errors=no ; start_time=[n/a] }

Id=ec2metaproxy.socket
LoadState=loaded
ActiveState=active
SubState=listening
UnitFileState=disabled
Listen=[::]:18000 (Stream)
Listen=/run/x.sock (Stream)
`;

t.test("units are read as `systemctl show` prints them", (t) => {
  t.match(parseUnits(shown), [
    {
      name: "ec2metaproxy.service",
      isLoaded: true,
      active: "activating",
      sub: "auto-restart",
      restarts: 7,
      exitStatus: 69,
      user: "ec2metaproxy",
      environmentFiles: [
        { path: "/etc/ec2metaproxy/environment", isOptional: true },
        { path: "/etc/more", isOptional: false },
      ],
      configPath: "/etc/ec2metaproxy/config.json",
      followsGuard: true,
    },
    { name: "ec2metaproxy.socket", ports: [18_000], file: "disabled", configPath: undefined },
  ]);
  t.same(parseUnits(""), []);
  t.end();
});
