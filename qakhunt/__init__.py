"""qakhunt: hunts in plain KQL for Microsoft Sentinel and Microsoft Defender.

    from qakhunt.hunts.catalog import Catalog
    from qakhunt.hunts.render import render

Every step of the command line can be used from Python: ``hunts`` loads and
renders, ``backends`` answer, ``runner`` runs a plan, ``reports`` write.
"""

__version__ = "0.1.0"
