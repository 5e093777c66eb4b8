"""The statistics on numpy and scipy: EFAS, co-activation, resampling, intervals. No storage."""
