"""The columns that a redacted recording keeps, and which of them hold names."""

from __future__ import annotations


def _names(text: str) -> list[str]:
    return text.split()


_PROCESS = _names(
    "FileName FolderPath Id ProcessId CommandLine ProcessCommandLine CreationTime "
    "ProcessCreationTime IntegrityLevel ProcessIntegrityLevel TokenElevation "
    "ProcessTokenElevation AccountDomain AccountName AccountSid AccountUpn ParentId "
    "ParentFileName ParentCreationTime SHA1 SHA256 MD5 FileSize LogonId SignatureStatus "
    "SignerType VersionInfoCompanyName VersionInfoProductName VersionInfoInternalFileName "
    "VersionInfoOriginalFileName VersionInfoFileDescription ProcessVersionInfoCompanyName "
    "ProcessVersionInfoProductName ProcessVersionInfoInternalFileName "
    "ProcessVersionInfoOriginalFileName ProcessVersionInfoFileDescription"
)
_OTHERS = _names(
    "TimeGenerated Timestamp TenantId ActionType DeviceId DeviceName Computer ReportId "
    "LocalIP LocalPort LocalIPType RemoteIP RemotePort RemoteIPType RemoteUrl RemoteDeviceName "
    "Protocol IPAddress PublicIP OSPlatform OSVersion RegistryKey RegistryValueName "
    "RegistryValueType RegistryValueData PreviousRegistryKey PreviousRegistryValueName "
    "PreviousRegistryValueData LogonType FailureReason IsLocalAdmin PreviousFileName "
    "PreviousFolderPath FileOriginUrl FileOriginIP FileOriginReferrerUrl AlertId Title Category "
    "Severity ServiceSource DetectionSource AttackTechniques EntityType EvidenceRole "
    "LoggedOnUsers DeviceType JoinType Vendor Model RequestAccountName RequestAccountDomain "
    "RequestAccountSid RequestSourceIP ShareName"
)

KEPT = frozenset([*_OTHERS, *_PROCESS, *(f"InitiatingProcess{name}" for name in _PROCESS)])
"""Columns of the products' tables that are kept; a query's own columns are kept, too."""

_IDENTITY_PARTS = (
    "devicename", "computer", "hostname", "deviceid", "accountname", "accountdomain", "accountupn",
    "accountsid", "accountobjectid", "username", "upn", "tenantid", "workspace", "localip",
    "remoteip", "ipaddress", "publicip", "loggedonusers", "domain", "account", "user", "host",
    "email", "mail",
)  # fmt: skip
_NO_IDENTITY = frozenset(["usersfolder", "accounts"])


def names_someone(column: str) -> bool:
    """Whether a column's cells are names of devices, people, domains or addresses."""
    folded = column.casefold()
    return folded not in _NO_IDENTITY and any(part in folded for part in _IDENTITY_PARTS)
