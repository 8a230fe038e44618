"""The door of a connection is remembered for a while, never beyond a change of its own process."""

import asyncio

from licensesvc.services.catalog.manage_connections import ChangeConnection, change_connection
from licensesvc.services.catalog.open_connection import CACHE_TIME, CallbackDoors
from tests.support_edges import KEY

NEW_KEY = "fedcba9876543210-new-key"


async def change_key(shop):
    change = ChangeConnection(callback_key=NEW_KEY)
    name = shop.connection.public_id
    await shop.rt.db.write(lambda tx: change_connection(tx, shop.rt, name, 1, change, by="test"))


async def key(doors, shop):
    return (await doors.find(shop.connection.public_id)).access_key


async def test_a_change_elsewhere_is_known_when_the_time_is_over(shop, clock):
    doors = CallbackDoors(shop.rt)
    assert await key(doors, shop) == KEY
    await change_key(shop)

    clock.now += CACHE_TIME - 1
    assert await key(doors, shop) == KEY
    clock.now += 1
    assert await key(doors, shop) == NEW_KEY


async def test_a_change_here_is_known_at_once(shop):
    doors = CallbackDoors(shop.rt)
    assert await key(doors, shop) == KEY
    await change_key(shop)
    doors.forget(shop.connection.public_id)
    assert await key(doors, shop) == NEW_KEY


async def test_what_was_read_before_a_change_is_not_remembered_after_it(shop):
    doors = CallbackDoors(shop.rt)
    reading = asyncio.create_task(key(doors, shop))
    await asyncio.sleep(0)  # it waits for the database
    doors.forget(shop.connection.public_id)
    assert await reading == KEY
    await change_key(shop)
    assert await key(doors, shop) == NEW_KEY
