"""The services on loopback: recorded events behind their APIs, with every fault they show.

Log Analytics, advanced hunting of Microsoft Graph, Entra ID, managed identity and
Logs Ingestion, good enough for the vendor's own clients.
"""
