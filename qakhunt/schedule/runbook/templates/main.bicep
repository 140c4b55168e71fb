// qakhunt in Azure Automation: the account and its identity, the runtime environment,
// the state's storage, and (with findingsWorkspace) a table for the findings.
// What a deployment cannot do here stands in STEPS.md: wheels, runbook content,
// roles in other subscriptions and tenants, Graph permissions.
targetScope = 'resourceGroup'

param location string = resourceGroup().location
param accountName string = 'qakhunt'
@description('Globally unique, lower case letters and digits.')
param storageName string
param runbookName string = 'qakhunt'
param scheduleStart string = dateTimeAdd(utcNow('u'), 'PT1H')
param scheduleHours int = @@HOURS@@
@description('Name of a workspace in this resource group that takes the findings; empty for none.')
param findingsWorkspace string = ''
@description('Name of a key vault in this resource group whose secrets the job reads; empty for none.')
param keyVaultName string = ''

var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'
var keyVaultSecretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource account 'Microsoft.Automation/automationAccounts@2024-10-23' = {
  name: accountName
  location: location
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    sku: {
      name: 'Basic'
    }
    publicNetworkAccess: false
    disableLocalAuth: true
  }
}

resource runtime 'Microsoft.Automation/automationAccounts/runtimeEnvironments@2024-10-23' = {
  parent: account
  name: 'qakhunt'
  location: location
  properties: {
    runtime: {
      language: 'Python'
      version: '3.10'
    }
  }
}

resource runbook 'Microsoft.Automation/automationAccounts/runbooks@2024-10-23' = {
  parent: account
  name: runbookName
  location: location
  properties: {
    runbookType: 'Python'
    runtimeEnvironment: runtime.name
    logVerbose: true
    logProgress: false
    draft: {}
  }
}

resource schedule 'Microsoft.Automation/automationAccounts/schedules@2024-10-23' = {
  parent: account
  name: runbookName
  properties: {
    startTime: scheduleStart
    frequency: 'Hour'
    interval: scheduleHours
    timeZone: 'Etc/UTC'
  }
}

resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: storageName
  location: location
  kind: 'StorageV2'
  sku: {
    name: 'Standard_LRS'
  }
  properties: {
    allowBlobPublicAccess: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: storage
  name: 'default'
}

resource stateContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: '@@CONTAINER@@'
}

resource packagesContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: 'qakhunt-packages'
}

resource stateRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: stateContainer
  name: guid(stateContainer.id, account.id, blobDataContributor)
  properties: {
    principalId: account.identity.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
  }
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = if (keyVaultName != '') {
  name: keyVaultName
}

resource vaultRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (keyVaultName != '') {
  scope: vault
  name: guid(keyVaultName, account.id, keyVaultSecretsUser)
  properties: {
    principalId: account.identity.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsUser)
  }
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' existing = if (findingsWorkspace != '') {
  name: findingsWorkspace
}

resource table 'Microsoft.OperationalInsights/workspaces/tables@2022-10-01' = if (findingsWorkspace != '') {
  parent: workspace
  name: '@@TABLE@@'
  properties: {
    plan: 'Analytics'
    schema: {
      name: '@@TABLE@@'
      columns: [
@@COLUMNS@@
      ]
    }
  }
}

resource rule 'Microsoft.Insights/dataCollectionRules@2023-03-11' = if (findingsWorkspace != '') {
  name: 'qakhunt-findings'
  location: location
  kind: 'Direct'
  properties: {
    streamDeclarations: {
      '@@STREAM@@': {
        columns: [
@@COLUMNS@@
        ]
      }
    }
    destinations: {
      logAnalytics: [
        {
          name: 'findings'
          workspaceResourceId: workspace.id
        }
      ]
    }
    dataFlows: [
      {
        streams: [
          '@@STREAM@@'
        ]
        destinations: [
          'findings'
        ]
        outputStream: '@@STREAM@@'
      }
    ]
  }
  dependsOn: [
    table
  ]
}

resource ruleRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (findingsWorkspace != '') {
  scope: rule
  name: guid('qakhunt-findings', account.id, monitoringMetricsPublisher)
  properties: {
    principalId: account.identity.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
  }
}

output principalId string = account.identity.principalId
output stateUrl string = '${storage.properties.primaryEndpoints.blob}@@CONTAINER@@/@@BLOB@@'
