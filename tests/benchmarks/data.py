"""Process events for the benchmarks, made once and kept in the temporary folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.parameters import parameters_of
from qakhunt.kql.values import Instant

NOW = Instant.parse("2026-11-05T09:00:00Z")
MISSION = "qakbot-post-compromise-commands"
# In the name of the file, so that a change of the generator makes a new one.
_VERSION = 1

# What a program that looks around runs: its file and its command line.
_DISCOVERY = (
    ("whoami.exe", "whoami  /all"),
    ("arp.exe", "arp -a"),
    ("ipconfig.exe", "ipconfig  /all"),
    ("net.exe", "net view /all"),
    ("cmd.exe", "cmd /c set"),
    ("nslookup.exe", "nslookup -querytype=ALL -timeout=12 _ldap._tcp.dc._msdcs.WORKGROUP"),
    ("net.exe", "net share"),
    ("route.exe", "route print"),
    ("netstat.exe", "netstat -nao"),
    ("net.exe", "net localgroup"),
    ("qwinsta.exe", "qwinsta"),
)
# What administrators, installers and agents run all day.
_EVERYDAY = (
    ("cmd.exe", r'"C:\Windows\system32\cmd.exe" /d /s /c "npm run build --silent"'),
    ("cmd.exe", r'C:\Windows\system32\cmd.exe /c ""C:\Scripts\logon.cmd" /user"'),
    ("cmd.exe", r"cmd.exe /c set PATH=C:\tools;%PATH% && build.bat > out.log 2>&1"),
    ("cmd.exe", r"cmd /c reg query HKLM\SOFTWARE\Vendor /v Version"),
    ("net.exe", r"net use Z: \\files\share /persistent:no"),
    ("net1.exe", r"C:\Windows\system32\net1 start wuauserv"),
    ("ipconfig.exe", r"ipconfig /flushdns"),
    ("ipconfig.exe", r'"C:\Windows\system32\ipconfig.exe" /all'),
    ("netstat.exe", r"netstat -an -p tcp"),
    ("nslookup.exe", r"nslookup host17.contoso.com 10.0.0.1"),
    ("whoami.exe", r"whoami"),
    ("whoami.exe", r'"C:\Windows\system32\whoami.exe" /user'),
)
_PARENTS = (
    ("explorer.exe", r"C:\Windows\Explorer.EXE", r"c:\windows"),
    ("cmd.exe", r'cmd.exe /c "C:\Scripts\inventory.cmd"', r"c:\windows\system32"),
    ("powershell.exe", "powershell.exe -NoProfile -Command Get-Inventory", r"c:\windows\system32"),
    ("svchost.exe", r"svchost.exe -k netsvcs -p", r"c:\windows\system32"),
    ("wermgr.exe", r"C:\Windows\SysWOW64\wermgr.exe", r"c:\windows\syswow64"),
)


def sql_list(texts: list[str] | tuple[str, ...]) -> str:
    """The texts as SQL literals with commas between."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


def mission_commands() -> list[str]:
    """The eleven commands of the mission's rule."""
    return list(parameters_of(Catalog().find(MISSION)[0])["QakBotCommands"].default)


def _pick(items: tuple[tuple[str, ...], ...], place: int, number: str) -> str:
    """SQL of one of the items' texts, by a number."""
    texts = sql_list([item[place] for item in items])
    return f"list_extract([{texts}], CAST({number} % {len(items)} AS INTEGER) + 1)"


def _generator(rows: int) -> str:
    """One record in 500 has a listed command, one in 20 starts a program that may look
    around; ten of every 20,000 are a burst of one process within three minutes."""
    listed = mission_commands()
    command = f"list_extract([{sql_list(listed)}], CAST(h5 % {len(listed)} AS INTEGER) + 1)"
    app = r"""'"C:\Program Files\App' || h6 % 400 || '\app.exe" --id ' || h7 % 1000000"""
    return f"""
        WITH numbered AS (
            SELECT i, i % 20000 < 10 AS burst, i // 20000 AS b, hash(i) AS h0,
                   hash(CASE WHEN i % 20000 < 10 THEN -1 - i // 20000 ELSE i + 1000000000 END) AS h1,
                   hash(i + 4000000000) AS h4, hash(i + 5000000000) AS h5,
                   hash(i + 6000000000) AS h6, hash(i + 7000000000) AS h7
            FROM range({rows}) t(i)
        ), kinds AS (
            SELECT *, CASE WHEN burst THEN 'burst' WHEN h4 % 500 = 0 THEN 'listed'
                           WHEN h4 % 20 = 1 THEN 'everyday' ELSE 'app' END AS kind
            FROM numbered
        ), files AS (
            SELECT *, CASE kind WHEN 'burst' THEN {_pick(_DISCOVERY, 0, "(b + i)")}
                                WHEN 'everyday' THEN {_pick(_EVERYDAY, 0, "h5")}
                                WHEN 'listed' THEN 'cmd.exe'
                                ELSE 'app' || h6 % 400 || '.exe' END AS file
            FROM kinds
        )
        SELECT TIMESTAMP '2026-10-06'
                 + to_microseconds(CAST(CASE WHEN burst THEN h1 % 2500000000000 + i % 20000 * 15000000
                                             ELSE h0 % 2505600000000 END AS BIGINT))
                 AS TimeGenerated,
               'id-' || h1 % 3000 AS DeviceId, 'ws-' || h1 % 3000 AS DeviceName,
               'user' || h1 % 3000 AS AccountName, 'w' || h1 % 5 AS TenantId,
               file AS FileName, file AS ProcessVersionInfoOriginalFileName,
               CASE kind WHEN 'burst' THEN {_pick(_DISCOVERY, 1, "(b + i)")}
                         WHEN 'everyday' THEN {_pick(_EVERYDAY, 1, "h5")}
                         WHEN 'listed' THEN {command} ELSE {app} END AS ProcessCommandLine,
               CAST(CASE WHEN burst THEN 4000 + b ELSE h7 % 3000 END AS BIGINT) AS InitiatingProcessId,
               {_pick(_PARENTS, 0, "h1")} AS InitiatingProcessFileName,
               {_pick(_PARENTS, 1, "h1")} AS InitiatingProcessCommandLine,
               {_pick(_PARENTS, 2, "h1")} AS InitiatingProcessFolderPath,
               CAST(h1 % 900 AS BIGINT) AS InitiatingProcessParentId,
               'userinit.exe' AS InitiatingProcessParentFileName
        FROM files"""


def process_events(rows: int) -> Path:
    """The Parquet file of so many process events of October and November 2026."""
    import duckdb

    folder = Path(tempfile.gettempdir()) / "qakhunt-benchmarks"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"DeviceProcessEvents-{rows}-{_VERSION}.parquet"
    if not path.exists():
        unfinished = path.with_suffix(".part")
        with duckdb.connect() as connection:
            connection.execute("SET memory_limit='1GB'")
            connection.execute("SET preserve_insertion_order=false")
            connection.execute(f"COPY ({_generator(rows)}) TO '{unfinished}' (FORMAT parquet)")
        unfinished.rename(path)
    return path
