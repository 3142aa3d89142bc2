"""Rendering, without any tool."""
