"""Huawei Cloud Marketplace (云商店 / KooGallery).

In: one module per scheme or message family; each works for the seller's side and for the simulator's.
Out: who may call what, and what an accepted message changes.
"""
