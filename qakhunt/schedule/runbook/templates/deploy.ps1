<#
  Puts the bundle in this folder into Azure Automation, with the Az PowerShell module.
  Sign in first: Connect-AzAccount -Tenant TENANT -Subscription SUBSCRIPTION
  Run it again after building the runbook anew: every step replaces what is there.
#>
param(
    [Parameter(Mandatory)] [string] $ResourceGroup,
    [Parameter(Mandatory)] [string] $StorageName,
    [string] $AccountName = 'qakhunt',
    [string] $RunbookName = 'qakhunt',
    [string] $FindingsWorkspace = '',
    [string] $KeyVaultName = ''
)
$ErrorActionPreference = 'Stop'
$here = $PSScriptRoot
$manifest = Get-Content "$here/manifest.json" -Raw | ConvertFrom-Json

# 1. Account, identity, runtime environment, schedule, storage, table and rule.
$deployed = New-AzResourceGroupDeployment -ResourceGroupName $ResourceGroup `
    -TemplateFile "$here/main.bicep" -accountName $AccountName -storageName $StorageName `
    -runbookName $RunbookName -findingsWorkspace $FindingsWorkspace -keyVaultName $KeyVaultName
$principal = $deployed.Outputs.principalId.Value

# 2. The wheels: checked against the manifest, then handed over by links of two hours.
$context = New-AzStorageContext -StorageAccountName $StorageName -UseConnectedAccount
$account = "/subscriptions/$((Get-AzContext).Subscription.Id)/resourceGroups/$ResourceGroup" +
    "/providers/Microsoft.Automation/automationAccounts/$AccountName"
foreach ($wheel in $manifest.wheels) {
    $file = "$here/$($wheel.file)"
    if ((Get-FileHash $file -Algorithm SHA256).Hash -ne $wheel.sha256) { throw "$file was changed" }
    $blob = Split-Path $file -Leaf
    Set-AzStorageBlobContent -Context $context -Container qakhunt-packages -File $file -Blob $blob -Force | Out-Null
    $link = New-AzStorageBlobSASToken -Context $context -Container qakhunt-packages -Blob $blob `
        -Permission r -ExpiryTime (Get-Date).AddHours(2) -FullUri
    $body = @{ properties = @{ contentLink = @{ uri = $link } } } | ConvertTo-Json -Depth 4
    $put = Invoke-AzRestMethod -Method PUT -Payload $body `
        -Path "$account/runtimeEnvironments/qakhunt/packages/$($wheel.project)?api-version=2024-10-23"
    if ($put.StatusCode -ge 300) { throw "$blob: $($put.Content)" }
}

# 3. The runbook's text, published, and its schedule.
$text = Get-Content "$here/runbook.py" -Raw
$put = Invoke-AzRestMethod -Method PUT -Payload $text `
    -Path "$account/runbooks/$RunbookName/draft/content?api-version=2024-10-23"
if ($put.StatusCode -ge 300) { throw "runbook: $($put.Content)" }
$post = Invoke-AzRestMethod -Method POST -Path "$account/runbooks/$RunbookName/publish?api-version=2024-10-23"
if ($post.StatusCode -ge 300) { throw "publish: $($post.Content)" }
Register-AzAutomationScheduledRunbook -ResourceGroupName $ResourceGroup -AutomationAccountName $AccountName `
    -RunbookName $RunbookName -ScheduleName $RunbookName -ErrorAction SilentlyContinue | Out-Null

Write-Output "The job's identity is $principal. What it may read is step 3 of STEPS.md."
