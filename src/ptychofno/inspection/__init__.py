"""What happens inside a network: statistics of its layers and parameters, by hooks."""

from ptychofno.inspection.network import inspect_network
from ptychofno.inspection.statistics import MapStatistics, effective_rank, power_shares

__all__ = ["MapStatistics", "effective_rank", "inspect_network", "power_shares"]
