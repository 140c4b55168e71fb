"""``qakbot-recon-burst`` as a good engineer would write it for DuckDB.

The lists and expressions are the hunt's own, so that both sides look for the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.parameters import parameters_of
from tests.benchmarks.data import sql_list

if TYPE_CHECKING:
    from pathlib import Path

HUNT = "qakbot-recon-burst"
# Family, its parameter, its techniques.
_FAMILIES = (
    ("whoami_all", "WhoamiAll", "T1033"),
    ("env_set", "EnvSet", "T1082"),
    ("arp", "Arp", "T1016"),
    ("ipconfig_all", "IpconfigAll", "T1016"),
    ("net_view", "NetView", "T1018"),
    ("nslookup_srv", "NslookupSrv", "T1018 T1016"),
    ("net_share", "NetShare", "T1135"),
    ("route_print", "RoutePrint", "T1016"),
    ("netstat", "Netstat", "T1049"),
    ("net_localgroup", "NetLocalgroup", "T1069.001"),
    ("net_localgroup_members", "NetLocalgroupMembers", "T1069.001"),
    ("qwinsta", "Qwinsta", "T1033"),
    ("net_group_domain", "NetGroupDomain", "T1069.002"),
    ("nltest_trusts", "NltestTrusts", "T1482"),
    ("nltest_controllers", "NltestControllers", "T1018"),
    ("net_config_workstation", "NetConfigWorkstation", "T1016"),
    ("systeminfo", "Systeminfo", "T1082"),
    ("antivirus_product", "AntivirusProduct", "T1518.001"),
)


def burst_sql(path: Path, start: str, end: str) -> str:
    """The hunt over the Parquet file, between two times."""
    given = {name: p.default for name, p in parameters_of(Catalog().find(HUNT)[0]).items()}

    def listed(name: str) -> str:
        return sql_list(given[name])

    def lowered(name: str) -> str:
        return listed(name).lower()

    def text(name: str) -> str:
        return sql_list([given[name]])

    family = " ".join(
        f"WHEN regexp_matches(Command, {text(parameter)}) THEN '{name}'"
        for name, parameter, _ in _FAMILIES
    )
    techniques = " ".join(
        f"WHEN '{name}' THEN [{sql_list(found.split())}]" for name, _, found in _FAMILIES
    )
    families, anchors = given["MinimumFamilies"], given["MinimumAnchors"]
    words = "|".join(given["CmdWords"])
    return rf"""
WITH processes AS (
    SELECT *, replace(lower(CASE WHEN lower(FileName) IN ({listed("Programs")}) THEN FileName
                            ELSE ProcessVersionInfoOriginalFileName END), '.exe', '') AS Program
    FROM read_parquet('{path}')
    WHERE TimeGenerated >= TIMESTAMP '{start}' AND TimeGenerated < TIMESTAMP '{end}'
      AND (lower(FileName) IN ({listed("Programs")})
           OR lower(ProcessVersionInfoOriginalFileName) IN ({listed("Programs")}))
      AND (lower(FileName) NOT IN ({listed("Wrappers")})
           OR regexp_matches(ProcessCommandLine, '(?i)(?:^|[^\pL\pN])(?:{words})(?:$|[^\pL\pN])')
           OR contains(ProcessCommandLine, '^'))
), lines AS (
    SELECT *, trim(Program || ' ' || trim(regexp_replace(regexp_extract(
                  lower(regexp_replace(ProcessCommandLine, '\s+', ' ', 'g')),
                  '^ ?(?:"[^"]*"[^ /]*|[^ /]+) ?(.*)$', 1), '["^]', '', 'g'))) AS Line
    FROM processes
), commands AS (
    SELECT *, CASE WHEN Program || '.exe' IN ({listed("Wrappers")}) THEN regexp_replace(
                  regexp_extract(regexp_replace(Line, {text("Wrapper")}, ''), {text("OneCommand")}, 1),
                  {text("FirstWord")}, '\1\2') ELSE Line END AS Command
    FROM lines
), families AS (
    SELECT *, CASE {family} END AS Family,
           lower(InitiatingProcessFileName) AS Parent,
           lower(InitiatingProcessCommandLine) AS ParentLine
    FROM commands WHERE Family IS NOT NULL
), wrappers AS (
    SELECT *, Parent IN ('powershell.exe', 'pwsh.exe') AND regexp_matches(ParentLine,
                  '[-/](?:c|co|com|comm|comma|comman|command|e|ec|en[a-z]*) ') AS FromPowerShell,
           FromPowerShell OR Program IN ('powershell', 'pwsh') AS ByPowerShell,
           InitiatingProcessParentId IS NOT NULL AND (FromPowerShell
               OR (Program = 'net1' AND Parent = 'net.exe')
               OR (Parent = 'cmd.exe'
                   AND regexp_matches(ParentLine,
                       '^ ?(?:"[^"]*"[^ ]*|[^ ]+?) *(?:/[adefqsuv](?::o(?:n|ff))? *)*/[cr]')
                   AND NOT regexp_matches(ParentLine, '\.(?:bat|cmd)(?:["\s]|$)'))) AS Wrapped
    FROM families
), issued AS (
    SELECT DeviceId, DeviceName, AccountName, TimeGenerated, Family, ProcessCommandLine,
           ByPowerShell,
           CASE WHEN Wrapped THEN InitiatingProcessParentId ELSE InitiatingProcessId END AS IssuerId,
           CASE WHEN Wrapped THEN InitiatingProcessParentFileName
                ELSE InitiatingProcessFileName END AS Issuer,
           CASE WHEN Wrapped THEN '' ELSE InitiatingProcessCommandLine END AS IssuerLine,
           CASE WHEN Wrapped THEN '' ELSE InitiatingProcessFolderPath END AS IssuerFolder,
           CASE WHEN Wrapped THEN '' ELSE InitiatingProcessParentFileName END AS IssuerParent,
           unnest([time_bucket(INTERVAL 15 MINUTE, TimeGenerated),
                   time_bucket(INTERVAL 15 MINUTE, TimeGenerated) - INTERVAL 15 MINUTE]) AS Period
    FROM wrappers
), kinds AS (
    SELECT DeviceId, DeviceName, AccountName, IssuerId, Period, Family, ProcessCommandLine,
           min(TimeGenerated) AS FirstTime, max(TimeGenerated) AS LastTime, max(Issuer) AS Issuer,
           max(IssuerLine) AS IssuerLine, max(IssuerFolder) AS IssuerFolder,
           max(IssuerParent) AS IssuerParent, count(*) FILTER (ByPowerShell) AS PowerShells
    FROM issued GROUP BY ALL
), tiers AS (
    SELECT * REPLACE (CASE WHEN Tier = 'issuer' THEN IssuerId END AS IssuerId),
           CASE WHEN lower(Issuer) IN ({lowered("InjectedHosts")})
                     OR (lower(Issuer) = 'explorer.exe' AND regexp_matches(IssuerFolder,
                         '(?i)(?:^|[^\pL\pN])syswow64(?:$|[^\pL\pN])')) THEN Issuer
                WHEN lower(Issuer) IN ({listed("Shells")})
                     AND lower(IssuerParent) IN ({lowered("InjectedHosts")}) THEN IssuerParent
                ELSE '' END AS Host
    FROM kinds CROSS JOIN (VALUES ('issuer'), ('device')) tier(Tier)
), bursts AS (
    SELECT DeviceId, DeviceName, AccountName, Tier, IssuerId AS IssuingProcessId, Period,
           min(FirstTime) AS FirstSeen, max(LastTime) AS LastSeen,
           list_sort(list(DISTINCT Family)) AS Families,
           count(DISTINCT Family) AS FamilyCount,
           count(DISTINCT Family) FILTER (Family IN ({listed("Anchors")})) AS AnchorCount,
           list(ProcessCommandLine ORDER BY FirstTime, LastTime, ProcessCommandLine)[:100] AS Commands,
           list_sort(list_distinct(flatten(list(CASE Family {techniques} END)))) AS Techniques,
           count(*) FILTER (Family = 'nslookup_srv') AS Lookups, list(DISTINCT Issuer) AS Issuers,
           max(Host) <> '' AS Injected,
           CASE WHEN Tier = 'issuer' OR len(Issuers) = 1 THEN max(Issuer) ELSE max(Host) END
               AS IssuingProcess,
           max(IssuerLine) AS IssuingProcessCommandLine, max(IssuerParent) AS IssuingProcessParent,
           round(epoch(LastSeen - FirstSeen), 2) AS Seconds,
           lower(IssuingProcess) IN ({listed("Shells")}) OR sum(PowerShells) > 0 AS FromShell,
           lower(IssuingProcess) = 'explorer.exe' AND max(IssuerFolder) <> '' AND NOT Injected
               AS UserShell,
           Tier = 'issuer' AND NOT FromShell
               AND lower(IssuingProcess) = lower(replace(max(IssuerLine), '"', '')) AS NoArguments
    FROM tiers GROUP BY DeviceId, DeviceName, AccountName, Tier, IssuerId, Period
    HAVING (Injected OR (NoArguments AND NOT UserShell) OR count(DISTINCT Family) FILTER (Family IN ({listed("RemoteFamilies")}))
                        >= {given["MinimumRemote"]})
       AND CASE WHEN Tier = 'device' THEN FamilyCount >= {given["DeviceFamilies"]}
                                          AND AnchorCount >= {given["DeviceAnchors"]}
                WHEN Injected THEN FamilyCount >= {families} - 1 + CAST(FromShell AS INTEGER)
                                   AND AnchorCount >= {anchors} - 1
                WHEN FromShell THEN FamilyCount + AnchorCount >= {families} + {anchors} + 2
                                    AND AnchorCount >= {anchors} + 1
                ELSE FamilyCount >= {families} - CAST(Lookups > 0 AND NOT UserShell AS INTEGER)
                     AND AnchorCount >= {anchors} END
), told AS (
    SELECT * FROM bursts WHERE Tier = 'issuer' OR NOT EXISTS (
        FROM bursts one WHERE one.Tier = 'issuer' AND one.DeviceId = bursts.DeviceId
            AND one.AccountName = bursts.AccountName
            AND one.Period BETWEEN bursts.Period - INTERVAL 15 MINUTE
                               AND bursts.Period + INTERVAL 15 MINUTE)
), starts AS (
    SELECT * FROM told QUALIFY row_number() OVER (
        PARTITION BY DeviceId, AccountName, Tier, IssuingProcessId, FirstSeen
        ORDER BY FamilyCount DESC) = 1
), whole AS (
    SELECT *, FamilyCount + AnchorCount + CASE WHEN Lookups > 0 THEN 2 ELSE 0 END
              + CASE WHEN Injected THEN 3 ELSE 0 END + CASE WHEN NoArguments THEN 1 ELSE 0 END
              + CASE WHEN Seconds <= 120 THEN 1 ELSE 0 END
              - CASE WHEN FromShell OR Tier = 'device' THEN 2 ELSE 0 END AS Score
    FROM starts QUALIFY row_number() OVER (
        PARTITION BY DeviceId, AccountName, Tier, IssuingProcessId, LastSeen
        ORDER BY FamilyCount DESC) = 1
), days AS (
    SELECT *, count(*) OVER day AS Bursts FROM whole
    WINDOW day AS (PARTITION BY DeviceId, AccountName, Tier, IssuingProcessId,
                   date_trunc('day', FirstSeen))
    QUALIFY row_number() OVER (
        PARTITION BY DeviceId, AccountName, Tier, IssuingProcessId, date_trunc('day', FirstSeen)
        ORDER BY Score - epoch(FirstSeen - date_trunc('day', FirstSeen)) / 172800 DESC) = 1
)
SELECT DeviceId, DeviceName, AccountName, Tier, IssuingProcess, IssuingProcessId,
       IssuingProcessCommandLine, IssuingProcessParent, Issuers, FamilyCount, Families, Commands, FirstSeen,
       LastSeen, Seconds, Bursts, Score,
       list_filter([
           CASE WHEN FamilyCount >= 8 THEN 'eight or more kinds of discovery in one burst'
                ELSE 'several kinds of discovery in one burst' END,
           CASE WHEN AnchorCount >= 3 THEN 'three or more of them rare in scripts and inventories'
                ELSE 'some of them rare in scripts and inventories' END,
           CASE WHEN Seconds <= 120 THEN 'all within two minutes' END,
           CASE WHEN Lookups > 0 THEN 'asks DNS for the domain controllers, as Qakbot does' END,
           CASE WHEN Injected THEN 'issued by a host that Qakbot or its kin injects, or by a shell that it started' END,
           CASE WHEN NoArguments THEN 'the issuing process was started without arguments' END,
           CASE WHEN FromShell THEN 'issued through a shell: a person or a script is possible' END,
           CASE WHEN Tier = 'device' THEN 'issued by several processes of one account, none of them enough by itself' END
       ], lambda reason: reason IS NOT NULL) AS Reasons, Techniques
FROM days ORDER BY Score DESC, FirstSeen, DeviceId"""
