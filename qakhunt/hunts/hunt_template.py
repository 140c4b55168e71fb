"""A new hunt's file and its test cases: commented, and right as they stand."""

from __future__ import annotations

import re
import uuid

from qakhunt.core.errors import UsageError

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")

_TEXT = """\
# A hunt is plain KQL: paste the query into the portal and it runs as it stands.
id: {id}
name: {title}
description: |
  What the hunt looks for, and why that is worth an analyst's time.
severity: Medium
tactics:
  - Discovery
relevantTechniques:
  - T1033
# Which result columns name the device and the account.
entityMappings:
  - entityType: Host
    fieldMappings:
      - identifier: HostName
        columnName: DeviceName
  - entityType: Account
    fieldMappings:
      - identifier: Name
        columnName: AccountName
version: "1.0"
# A leading let that holds a literal is a parameter: --set changes its value.
query: |
  let Commands = dynamic(["whoami /all", "ipconfig /all"]);
  let Threshold = 1;
  let StartTime = ago(7d);
  let EndTime = now();
  DeviceProcessEvents
  | where TimeGenerated >= StartTime and TimeGenerated < EndTime
  | where ProcessCommandLine in~ (Commands)
  | summarize
      TotalCommandsFound = count(),
      CommandLineList = make_set(tolower(ProcessCommandLine)),
      FirstSeen = min(TimeGenerated),
      LastSeen = max(TimeGenerated)
      by DeviceName, AccountName, TenantId
  | extend TotalUniqueCommandsFound = array_length(CommandLineList)
  | where TotalUniqueCommandsFound > Threshold
  | sort by TotalUniqueCommandsFound, TotalCommandsFound
# What only qakhunt reads.
qakhunt:
  parameters:
    Commands:
      help: Command lines to look for, each compared as a whole, in any case.
      role: commands      # --command, --commands and --add-command fill it
    Threshold:
      help: More than this many distinct commands make a hit.
      role: threshold     # --threshold fills it
      minimum: 0
  window:                 # the lets that --window replaces
    start: StartTime
    end: EndTime
  lookback: 7d            # how far back every scheduled run looks
  result:                 # which result columns the screen shows
    commands: CommandLineList
    distinct: TotalUniqueCommandsFound
    total: TotalCommandsFound
    first_seen: FirstSeen
    last_seen: LastSeen
  fingerprint: [DeviceName, AccountName]
  triage:
    - What to look at first.
  false_positives:
    - What is known to look the same.
  limits:
    - What the hunt cannot see.
"""

_CASES = """\
# Test cases of {name}: 'qakhunt test' runs them on the embedded engine.
now: 2026-11-05T09:00:00Z
window: 2026-10-14/2026-10-15
fill:                     # columns that every row has
  DeviceProcessEvents: {{DeviceName: pc1.example, AccountName: alice}}
cases:
  - name: two of the commands on one device are a hit
    tables:
      DeviceProcessEvents:
        - {{TimeGenerated: 2026-10-14T09:00:00Z, ProcessCommandLine: whoami /all}}
        - {{TimeGenerated: 2026-10-14T09:01:00Z, ProcessCommandLine: IPCONFIG /all}}
    expect:
      rows:
        - {{DeviceName: pc1.example, AccountName: alice, TotalUniqueCommandsFound: 2}}

  - name: one command twice, and one that is not on the list, are silent
    tables:
      DeviceProcessEvents:
        - {{TimeGenerated: 2026-10-14T09:00:00Z, ProcessCommandLine: whoami /all}}
        - {{TimeGenerated: 2026-10-14T09:01:00Z, ProcessCommandLine: whoami /all}}
        - {{TimeGenerated: 2026-10-14T09:02:00Z, ProcessCommandLine: ipconfig}}
    expect: {{none: true}}
"""


def check_name(name: str) -> None:
    """Refuse a name that is no good file name everywhere."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a hunt", hint="use lower case letters, digits and hyphens"
        )


def template(name: str) -> str:
    """The text of a hunt file with an id of its own."""
    title = name.replace("-", " ").capitalize()
    return _TEXT.format(id=uuid.uuid4(), title=title)


def cases(name: str) -> str:
    """The text of its test cases: one that fires, one that stays silent."""
    return _CASES.format(name=name)
