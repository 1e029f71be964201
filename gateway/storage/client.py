"""Connections to Redis or Valkey, with the timeouts that a request path needs."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

Store = Redis | RedisCluster
