"""tinyvox"""
